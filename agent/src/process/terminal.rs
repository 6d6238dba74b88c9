//! Terminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

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

/// Sets a terminal's size; 0 columns or rows mean 80 or 24. Its foreground processes get SIGWINCH.
pub fn resize(controller: impl AsFd, size: &PtySize) -> Result<(), Errno> {
    let or = |value: u32, default: u16| match u16::try_from(value) {
        Ok(0) => default,
        Ok(value) => value,
        Err(_) => u16::MAX,
    };
    tcsetwinsize(
        controller,
        Winsize {
            ws_col: or(size.cols, COLUMNS),
            ws_row: or(size.rows, ROWS),
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}
