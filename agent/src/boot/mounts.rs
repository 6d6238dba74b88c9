//! As PID 1: the file systems and directories programs expect, where the image or the runtime left them out.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::log;

struct Wanted {
    directory: &'static str,
    /// Present when the file system is there already.
    witness: &'static str,
    kind: &'static std::ffi::CStr,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

/// Mounts and makes what is missing. What exists is left as it is; what cannot be made is logged.
pub fn add_missing() {
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let wanted = [
        Wanted {
            directory: "/proc",
            witness: "/proc/self",
            kind: c"proc",
            flags: safe | MountFlags::NOEXEC,
            options: c"",
        },
        Wanted {
            directory: "/dev",
            witness: "/dev/null",
            kind: c"devtmpfs",
            flags: MountFlags::NOSUID,
            options: c"mode=0755",
        },
        Wanted {
            directory: "/dev/pts",
            witness: "/dev/pts/ptmx",
            kind: c"devpts",
            flags: MountFlags::NOSUID | MountFlags::NOEXEC,
            options: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
        },
        Wanted {
            directory: "/dev/shm",
            witness: "/dev/shm",
            kind: c"tmpfs",
            flags: safe,
            options: c"mode=1777",
        },
    ];
    for entry in wanted {
        if let Err(error) = add(&entry) {
            report(entry.directory, &error);
        }
    }
    for (directory, mode) in [("/tmp", 0o1777), ("/run", 0o755)] {
        if let Err(error) = make(directory, mode) {
            report(directory, &error);
        }
    }
}

fn add(entry: &Wanted) -> io::Result<()> {
    if Path::new(entry.witness).exists() {
        return Ok(());
    }
    fs::create_dir_all(entry.directory)?;
    mount(entry.kind, entry.directory, entry.kind, entry.flags, entry.options)?;
    Ok(())
}

fn make(directory: &str, mode: u32) -> io::Result<()> {
    if Path::new(directory).exists() {
        return Ok(());
    }
    fs::create_dir(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(mode))
}

fn report(directory: &str, error: &io::Error) {
    log::error(
        "boot",
        "cannot provide a directory",
        &[("directory", directory.into()), ("error", error.to_string().into())],
    );
}
