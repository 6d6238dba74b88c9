//! Takes a process's output from its pipes or terminal into its buffer.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::ring::Source;
use super::shared::Process;

/// Most bytes of one read (64 KiB, what a pipe holds).
const READ: usize = 64 * 1024;

thread_local! {
    // One for all: a read and its copy into the ring happen without a pause between them.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads until the other side is closed everywhere. While the slowest reader has no room it does not
/// read, so the process blocks in its next write.
pub async fn pump(process: &Process, source: Source, fd: &AsyncFd<OwnedFd>) {
    loop {
        // A process that never stops writing must leave other work its turn.
        tokio::task::consume_budget().await;
        let made = process.room_made.notified();
        if process.room(source) == 0 {
            made.await;
            continue;
        }
        let Ok(mut ready) = fd.readable().await else {
            return;
        };
        let room = process.room(source);
        if room == 0 {
            continue;
        }
        match ready.try_io(|fd| take(process, source, fd.as_fd(), room)) {
            Ok(Ok(0)) => return,
            // A terminal whose other side is closed everywhere reads as an I/O error.
            Ok(Err(_)) => return,
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

fn take(process: &Process, source: Source, fd: impl AsFd, room: usize) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(READ, 0);
        loop {
            match rustix::io::read(&fd, &mut scratch[..room.min(READ)]) {
                Ok(read) => {
                    process.push(source, &scratch[..read]);
                    return Ok(read);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    })
}
