//! Descriptors: three standard ones, nothing that a process could inherit, and room for many.

use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process;

/// Opens what is missing of 0, 1 and 2, and keeps everything else from the processes.
pub fn secure() -> io::Result<()> {
    // Looked at first: an image may have no /dev/null, and then nothing must need it.
    while (0..3).any(|number| !is_open(number)) {
        // The lowest free number is what a new descriptor gets; it stays open for good.
        std::mem::forget(rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty())?);
    }
    // SAFETY: marks descriptors; closes none and touches no memory.
    let failed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } < 0;
    if failed {
        mark_each();
    }
    Ok(())
}

fn is_open(number: i32) -> bool {
    // SAFETY: only asks for a flag.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// For kernels without close_range: gVisor's older ones.
fn mark_each() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: sets a flag of a descriptor number; one that is closed by now only gives EBADF.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Raises the limit on open files to what is allowed; processes keep the one there was.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current else { return };
    let hard = limit.maximum.unwrap_or(libc::RLIM_INFINITY);
    process::remember_file_limit(soft, hard);
    // Refused: the agent then serves fewer connections at once.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
