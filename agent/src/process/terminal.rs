//! Terminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getsid, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};

use crate::users::User;
use crate::wire::process::PtySize;

const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// A terminal's two sides.
pub struct Terminal {
    /// The agent's side.
    pub controller: OwnedFd,
    /// The process's side.
    pub user: OwnedFd,
}

/// Opens a terminal of `size` that belongs to `user`.
pub fn open(size: Option<&PtySize>, user: Option<&User>) -> Result<Terminal, Errno> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&controller)?;
    let path = ptsname(&controller, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let side = rustix::fs::open(path.as_c_str(), flags, Mode::empty())?;
    if let Some(user) = user {
        // Without it the user's own programs could not open /dev/tty's device again (tmux, ssh, script).
        match rustix::fs::fchown(&side, Some(Uid::from_raw(user.uid)), None::<Gid>) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    resize(controller.as_fd(), size.unwrap_or(&PtySize::default()))?;
    Ok(Terminal { controller, user: side })
}

/// Sets a terminal's size; 0 columns or rows mean 80 or 24.
pub fn resize(controller: impl AsFd, size: &PtySize) -> Result<(), Errno> {
    let or = |value: u32, default: u16| match u16::try_from(value) {
        Ok(0) => default,
        Ok(value) => value,
        Err(_) => u16::MAX,
    };
    tcsetwinsize(
        &controller,
        Winsize {
            ws_col: or(size.cols, COLUMNS),
            ws_row: or(size.rows, ROWS),
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// Tells the programs of `session` that its terminal has another size, where the kernel does not.
///
/// gVisor sets the size and sends no SIGWINCH, and does not say which group is in the foreground; the signal does
/// nothing to a program that does not ask for it, so every program of the session gets it.
pub fn tell_resized(controller: impl AsFd, session: Pid) {
    if tcgetpgrp(controller).is_ok() {
        return;
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && getsid(Some(pid)) == Ok(session)
        {
            // It may have ended since it was listed.
            let _ = kill_process(pid, Signal::WINCH);
        }
    }
}
