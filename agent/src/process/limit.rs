//! A limit on how many processes there may be, so that a fork bomb fails in the sandbox and not at the host's limit.
//!
//! gVisor has a pids controller of its own; it is mounted in a place of its own and processes join its
//! group as they start. The agent stays outside, so that it can always end them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::mount::{MountFlags, mount};

const MOUNT: &str = "/run/.atoll/pids";
const GROUP: &str = "/run/.atoll/pids/sandbox";

static MEMBERS: OnceLock<File> = OnceLock::new();

/// Limits the processes that are started from now on, with all their descendants, to `limit`. Called again, it changes
/// the limit. Only in gVisor; elsewhere the host's own limit shows up as EAGAIN already, so nothing is done.
pub fn limit(limit: u64) -> io::Result<()> {
    if !in_gvisor() {
        return Ok(());
    }
    if MEMBERS.get().is_none() {
        fs::create_dir_all(MOUNT)?;
        mount(
            c"pids",
            MOUNT,
            c"cgroup",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            c"pids",
        )?;
        fs::create_dir_all(GROUP)?;
    }
    fs::write(Path::new(GROUP).join("pids.max"), limit.to_string())?;
    if MEMBERS.get().is_none() {
        let members = OpenOptions::new()
            .write(true)
            .open(Path::new(GROUP).join("cgroup.procs"))?;
        // Only one initialisation runs at a time: they come one after the other on one thread.
        let _ = MEMBERS.set(members);
    }
    Ok(())
}

/// Descriptor a new child writes "0" to, to join the group; None = there is no group.
pub fn members() -> Option<RawFd> {
    MEMBERS.get().map(AsRawFd::as_raw_fd)
}

fn in_gvisor() -> bool {
    fs::read_to_string("/proc/version")
        .is_ok_and(|version| version.contains("gVisor") || version.contains("Linux version 4.4.0"))
}
