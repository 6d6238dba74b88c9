//! A child's pipes or terminal, and its start.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::clone::{self, CloneError, Plan};
use super::input::Input;
use super::ring::Source;
use super::terminal;
use crate::users::User;
use crate::wire::process::PtySize;

/// How a child is connected.
pub enum Wiring {
    /// To pipes; to one on its standard input only when `stdin`.
    Pipes {
        /// Whether it can be written to.
        stdin: bool,
    },
    /// To a terminal.
    Terminal {
        /// Its size.
        size: Option<PtySize>,
    },
}

/// A started child.
pub struct Child {
    /// Its process id.
    pub pid: Pid,
    /// Where its output comes from; descriptors that do not block.
    pub outputs: Vec<(Source, OwnedFd)>,
    /// Where its input goes.
    pub input: Input,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No descriptors for it.
    #[error("cannot make {what}: {errno}")]
    Wiring {
        /// What could not be made.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The child failed before its program ran.
    #[error(transparent)]
    Clone(#[from] CloneError),
}

/// Starts `plan` connected as `wiring` says; its descriptors are set here.
pub fn start(mut plan: Plan, wiring: &Wiring, user: Option<&User>) -> Result<Child, ChildError> {
    match wiring {
        Wiring::Terminal { size } => {
            let failed = |errno| ChildError::Wiring {
                what: "a terminal",
                errno,
            };
            let terminal = terminal::open(size.as_ref(), user).map_err(failed)?;
            set_nonblocking(&terminal.controller).map_err(failed)?;
            let writer = terminal
                .controller
                .try_clone()
                .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))?;
            plan.stdio = [terminal.user.as_raw_fd(); 3];
            plan.terminal = Some(terminal.user.as_raw_fd());
            let pid = clone::start(&plan)?;
            Ok(Child {
                pid,
                outputs: vec![(Source::Pty, terminal.controller)],
                input: Input::terminal(writer),
            })
        }
        Wiring::Pipes { stdin } => {
            let failed = |errno| ChildError::Wiring { what: "a pipe", errno };
            let (out_reader, out_writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
            let (err_reader, err_writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
            set_pipe_nonblocking(&out_reader).map_err(failed)?;
            set_pipe_nonblocking(&err_reader).map_err(failed)?;
            let (in_reader, input) = if *stdin {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
                set_pipe_nonblocking(&writer).map_err(failed)?;
                (reader, Input::pipe(writer))
            } else {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let null =
                    rustix::fs::open(c"/dev/null", flags, Mode::empty()).map_err(|errno| ChildError::Wiring {
                        what: "standard input out of /dev/null",
                        errno,
                    })?;
                (null, Input::disabled())
            };
            plan.stdio = [in_reader.as_raw_fd(), out_writer.as_raw_fd(), err_writer.as_raw_fd()];
            let pid = clone::start(&plan)?;
            Ok(Child {
                pid,
                outputs: vec![(Source::Stdout, out_reader), (Source::Stderr, err_reader)],
                input,
            })
        }
    }
}

/// As `set_nonblocking`, of a new pipe's end, which has no other flag that could be changed.
fn set_pipe_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, OFlags::NONBLOCK)
}

/// Only the agent's ends do not block: a program must find its own as it expects them.
fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
