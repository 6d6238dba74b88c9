//! From a process's descriptors to its readers.

use super::input::set_nonblocking;
use super::live::Process;
use super::output::{Chunk, Kind};
use crate::state::Agent;
use bytes::Bytes;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Largest chunk from a pipe, and from a terminal, as envd has them.
const PIPE_CHUNK: usize = 32 * 1024;
const PTY_CHUNK: usize = 16 * 1024;
/// How long an ended process can still be connected to.
const KEPT_AFTER_END: Duration = Duration::from_secs(30);

/// One descriptor that output comes from.
pub struct Source {
    descriptor: AsyncFd<OwnedFd>,
    kind: Kind,
}

impl Source {
    /// Take over `descriptor`, which is made non-blocking.
    pub fn new(descriptor: OwnedFd, kind: Kind) -> io::Result<Self> {
        set_nonblocking(&descriptor)?;
        Ok(Self { descriptor: AsyncFd::new(descriptor)?, kind })
    }

    /// The next chunk; none at the end.
    async fn next(&self) -> Option<Chunk> {
        loop {
            let mut guard = self.descriptor.readable().await.ok()?;
            match guard.try_io(|inner| self.read(inner.get_ref())) {
                Ok(Ok(bytes)) => return (!bytes.is_empty()).then_some(Chunk { kind: self.kind, bytes }),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal whose last user is gone answers EIO: that is its end of file.
                Ok(Err(_)) => return None,
                Err(_would_block) => {}
            }
        }
    }

    /// What is there right now, without waiting.
    fn ready(&self) -> Option<Chunk> {
        match self.read(self.descriptor.get_ref()) {
            Ok(bytes) if !bytes.is_empty() => Some(Chunk { kind: self.kind, bytes }),
            _ => None,
        }
    }

    fn read(&self, descriptor: &OwnedFd) -> io::Result<Bytes> {
        let mut buffer = vec![0_u8; if self.kind == Kind::Pty { PTY_CHUNK } else { PIPE_CHUNK }];
        // SAFETY: the pointer and the length describe `buffer`, which outlives the call.
        let count = unsafe { libc::read(descriptor.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(count);
        // A small piece must not hold 32 KiB in the ring.
        buffer.shrink_to_fit();
        Ok(Bytes::from(buffer))
    }
}

/// Carry output until the process has ended and what it wrote is out; then tell the end, and forget it later.
///
/// What a surviving child of it writes afterwards is read and thrown away, so that it never blocks on a full pipe.
pub async fn run(agent: Arc<Agent>, process: Arc<Process>, mut sources: Vec<Source>) {
    let exit = loop {
        tokio::select! {
            biased;
            chunk = any(&mut sources), if !sources.is_empty() => if let Some(chunk) = chunk {
                process.output.emit(chunk).await;
            },
            exit = process.wait() => break exit,
        }
    };
    for source in &sources {
        while let Some(chunk) = source.ready() {
            process.output.emit(chunk).await;
        }
    }
    process.output.end(exit.event()).await;
    *process.stdin.lock().await = None;
    crate::log::line(
        crate::log::Level::Info,
        "process",
        "process ended",
        &[("pid", process.pid.into()), ("status", exit.event().status.into())],
    );
    let forget = Arc::clone(&process);
    tokio::spawn(async move {
        tokio::time::sleep(KEPT_AFTER_END).await;
        agent.processes.forget(&forget);
    });
    while !sources.is_empty() {
        any(&mut sources).await;
    }
}

/// The next chunk of any source; a source at its end is removed and gives none.
async fn any(sources: &mut Vec<Source>) -> Option<Chunk> {
    let (index, chunk) = match &sources[..] {
        [] => return None,
        [only] => (0, only.next().await),
        [first, second, ..] => tokio::select! {
            chunk = first.next() => (0, chunk),
            chunk = second.next() => (1, chunk),
        },
    };
    if chunk.is_none() {
        sources.remove(index);
    }
    chunk
}
