//! A TCP connection as hyper sees it, which bounds how large and how slow a request's head may be.
//!
//! A timer exists only between the first byte of a head and its last: an idle connection costs no wake-up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A larger head closes the connection, in bytes (64 KiB).
pub const MAX_HEAD: usize = 64 * 1024;
/// A head must arrive whole within this time of its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a request is being served on the connection; shared by its socket and its service.
#[derive(Debug, Default)]
pub struct Phase {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Phase {
    /// Marks a request as begun; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> PhaseGuard {
        self.begun.fetch_add(1, Ordering::Relaxed);
        PhaseGuard(Arc::clone(self))
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    fn is_serving(&self) -> bool {
        self.begun() != self.ended.load(Ordering::Relaxed)
    }
}

/// Ends its request when dropped.
#[derive(Debug)]
pub struct PhaseGuard(Arc<Phase>);

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connection.
pub struct GuardedStream {
    stream: TcpStream,
    phase: Arc<Phase>,
    /// Requests begun when the head now being read started.
    seen: u32,
    head_bytes: usize,
    head_since: Option<Instant>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl GuardedStream {
    /// Guards `stream`; `phase` is told when requests begin and end.
    pub fn new(stream: TcpStream, phase: Arc<Phase>) -> Self {
        Self {
            stream,
            phase,
            seen: 0,
            head_bytes: 0,
            head_since: None,
            deadline: None,
        }
    }

    /// The bare socket, for an upgraded connection.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn forget_head(&mut self) {
        self.seen = self.phase.begun();
        self.head_bytes = 0;
        self.head_since = None;
        self.deadline = None;
    }

    /// Fails when the head being read is too large or too late.
    fn check_head(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        if self.phase.is_serving() || self.seen != self.phase.begun() {
            self.forget_head();
        }
        let Some(since) = self.head_since else {
            return Ok(());
        };
        if self.head_bytes >= MAX_HEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the request's head is too large",
            ));
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(since + HEAD_TIMEOUT)));
        match deadline.as_mut().poll(task) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Read for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Err(error) = this.check_head(task) {
            return Poll::Ready(Err(error));
        }
        // SAFETY: the buffer goes into a `ReadBuf`, which never de-initialises bytes.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        match Pin::new(&mut this.stream).poll_read(task, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                // SAFETY: `read` bytes at the buffer's start were just filled.
                unsafe { cursor.advance(read) };
                if read > 0 && !this.phase.is_serving() {
                    this.head_bytes += read;
                    this.head_since.get_or_insert_with(Instant::now);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Write for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(task)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(task, slices)
    }
}
