//! What a process reads: a pipe on its standard input, its terminal, or nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::terminal;
use crate::connect::{Code, Error};
use crate::wire::process::{ProcessInput, PtySize};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Disabled,
    Pipe,
    Terminal,
}

/// The agent's end of a process's input.
pub struct Input {
    kind: Kind,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Held while writing, so that inputs arrive whole and in order.
    order: tokio::sync::Mutex<()>,
}

impl Input {
    /// No input: standard input is `/dev/null`.
    pub fn disabled() -> Self {
        Self::new(Kind::Disabled, None)
    }

    /// The writing end of a pipe; must not block.
    pub fn pipe(fd: OwnedFd) -> Self {
        Self::new(Kind::Pipe, Some(fd))
    }

    /// The controlling side of a terminal; must not block.
    pub fn terminal(fd: OwnedFd) -> Self {
        Self::new(Kind::Terminal, Some(fd))
    }

    fn new(kind: Kind, fd: Option<OwnedFd>) -> Self {
        Self {
            kind,
            fd: Mutex::new(fd.map(Arc::new)),
            order: tokio::sync::Mutex::new(()),
        }
    }

    fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes all of `input`, waiting while the process does not read.
    ///
    /// `invalid_argument` when it names no stream or both; `internal` when that stream is not there or closed.
    pub async fn write(&self, input: ProcessInput) -> Result<(), Error> {
        let (bytes, kind) = match (input.stdin, input.pty) {
            (Some(bytes), None) => (bytes, Kind::Pipe),
            (None, Some(bytes)) => (bytes, Kind::Terminal),
            _ => return Err(Error::invalid("the input must be one of stdin and pty")),
        };
        match (self.kind, kind) {
            (Kind::Terminal, Kind::Pipe) => {
                return Err(Error::internal("the process runs on a terminal: send its input as pty"));
            }
            (Kind::Disabled | Kind::Pipe, Kind::Terminal) => {
                return Err(Error::internal("the process has no terminal"));
            }
            (Kind::Disabled, _) => {
                return Err(Error::internal(
                    "stdin is not enabled: start the process with stdin set to true",
                ));
            }
            _ => {}
        }
        let _turn = self.order.lock().await;
        let Some(fd) = self.fd() else {
            return Err(Error::internal("stdin is closed"));
        };
        write_all(fd.as_fd(), &bytes)
            .await
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EPIPE | libc::EIO) => Error::internal("the process has closed its input"),
                _ => Error::internal(format!("cannot write to the process: {error}")),
            })
    }

    /// Closes standard input once what was sent before is written. Closing twice is no error.
    ///
    /// `internal` for a terminal, which ends by a character instead.
    pub async fn close(&self) -> Result<(), Error> {
        if self.kind == Kind::Terminal {
            return Err(Error::internal(
                "a terminal's input cannot be closed: send the end-of-file character (0x04)",
            ));
        }
        let _turn = self.order.lock().await;
        self.end();
        Ok(())
    }

    /// Lets go of the input at once, when the process has ended.
    pub fn end(&self) {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sets the size of the terminal of `session`. `internal` when the process has none, or has ended.
    pub fn resize(&self, size: &PtySize, session: Pid) -> Result<(), Error> {
        match self.fd() {
            Some(fd) if self.kind == Kind::Terminal => {
                terminal::resize(fd.as_fd(), size)
                    .map_err(|errno| Error::new(Code::Internal, format!("cannot resize the terminal: {errno}")))?;
                terminal::tell_resized(fd.as_fd(), session);
                Ok(())
            }
            _ => Err(Error::internal("the process has no terminal")),
        }
    }
}

async fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    // Registered for events only when a write had to wait, which is rare.
    let mut waiting = None;
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let events = match &mut waiting {
                    Some(events) => events,
                    // SAFETY: the descriptor is borrowed, so it stays open and the same for as long.
                    none => none.insert(unsafe { AsyncFd::register_with_interest(fd.as_fd(), Interest::WRITABLE) }?),
                };
                events.writable().await?.clear_ready();
                // Readiness may have come between the write and the registration: try again either way.
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
