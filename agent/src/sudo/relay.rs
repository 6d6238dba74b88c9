//! A terminal of the command's own, and the bytes between it and the caller's.
//!
//! The command gets a new session, so it cannot have the caller's terminal as its controlling one. It gets its own, and
//! the caller's is made to pass every byte: job control, prompts and Ctrl-C then work on the inner one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Ctrl-Z, as terminals are set unless somebody changes it.
const SUSPEND: u8 = 0x1a;
/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;

/// The two terminals.
pub struct Relay {
    controller: OwnedFd,
    /// The caller's settings, while they are changed.
    saved: Option<Termios>,
    /// Read from the caller, not yet taken by the command.
    pending: Vec<u8>,
    /// Whether the caller's terminal still gives input.
    open: bool,
}

impl Relay {
    /// Makes the inner terminal like the caller's. Returns also the command's side of it.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&controller)?;
        let path = ptsname(&controller, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = rustix::fs::open(path.as_c_str(), flags, Mode::empty())?;
        tcsetattr(&inner, OptionalActions::Now, &tcgetattr(stdin())?)?;
        fcntl_setfl(&controller, fcntl_getfl(&controller)? | OFlags::NONBLOCK)?;
        let relay = Self {
            controller,
            saved: None,
            pending: Vec::new(),
            open: true,
        };
        relay.resize();
        Ok((relay, inner))
    }

    /// Gives the inner terminal the caller's size.
    pub fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            // The kernel tells the command only of a change.
            let _ = tcsetwinsize(&self.controller, size);
        }
    }

    /// Takes the caller's terminal, when this process is in its foreground.
    pub fn take(&mut self) {
        if self.saved.is_some() || tcgetpgrp(stdin()) != Ok(getpgrp()) {
            return;
        }
        let Ok(saved) = tcgetattr(stdin()) else { return };
        let mut raw = saved.clone();
        raw.make_raw();
        if tcsetattr(stdin(), OptionalActions::Drain, &raw).is_ok() {
            self.saved = Some(saved);
        }
    }

    /// Gives it back as it was.
    pub fn give_back(&mut self) {
        if let Some(saved) = self.saved.take() {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &saved);
        }
    }

    /// Whether the caller's terminal is taken.
    pub fn is_taken(&self) -> bool {
        self.saved.is_some()
    }

    /// The caller's side, when input can be taken from it.
    pub fn source(&self) -> Option<BorrowedFd<'static>> {
        (self.open && self.saved.is_some() && self.pending.is_empty()).then(stdin)
    }

    /// The inner terminal, and whether there is input for it.
    pub fn inner(&self) -> (BorrowedFd<'_>, bool) {
        (self.controller.as_fd(), !self.pending.is_empty())
    }

    /// Takes what the caller typed.
    pub fn read_input(&mut self) {
        // gVisor before 2025 does not tell of a new size.
        self.resize();
        let mut buffer = [0; CHUNK];
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(count) if count > 0 => self.pending.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.open = false,
        }
    }

    /// Gives it to the command. Returns whether there was a Ctrl-Z in it.
    pub fn write_input(&mut self) -> bool {
        match rustix::io::write(&self.controller, &self.pending) {
            Ok(count) => self.pending.drain(..count).any(|byte| byte == SUSPEND),
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                self.pending.clear();
                false
            }
        }
    }

    /// Shows what the command wrote; false = there is no more now.
    pub fn copy_output(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        match rustix::io::read(&self.controller, &mut buffer) {
            Ok(count) if count > 0 => write_all(&buffer[..count]),
            Err(Errno::INTR) => true,
            Ok(_) | Err(_) => false,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn write_all(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut wait = [rustix::event::PollFd::from_borrowed_fd(
                    stdout(),
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut wait, None);
            }
            // Nobody looks any more; the command goes on.
            Err(_) => return true,
        }
    }
    true
}
