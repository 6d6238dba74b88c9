//! What `/init` changes outside the agent: files, host name, clock, limit on processes.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};

use crate::process;
use crate::time;

/// A clock that is off by less is left alone, so that a running sandbox sees no jump for nothing.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(50);

/// Writes `(name, content)` pairs into `directory`, readable by everybody; skips names without content.
pub fn write_files(directory: &Path, files: &[(&str, Option<&str>)]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, content) in files {
        if let Some(content) = content {
            let mut file = File::create(directory.join(name))?;
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.write_all(content.as_bytes())?;
        }
    }
    Ok(())
}

/// Sets the host name.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Sets the clock to an RFC 3339 time, unless it is right already.
pub fn set_clock(timestamp: &str) -> io::Result<()> {
    let wanted = time::parse_rfc3339(timestamp).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("'{timestamp}' is not an RFC 3339 time"),
        )
    })?;
    if time::now().abs_diff(wanted) < CLOCK_TOLERANCE {
        return Ok(());
    }
    let timespec = Timespec {
        tv_sec: i64::try_from(wanted.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wanted.subsec_nanos().into(),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, timespec)?)
}

/// Lets processes started from now on have at most `limit` processes together.
pub fn limit_processes(limit: u64) -> io::Result<()> {
    process::limit(limit)
}
