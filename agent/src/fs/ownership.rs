//! Whose files the agent makes.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat, fchown};

use crate::users::User;

/// The user and group that own what an operation creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Numeric user.
    pub uid: u32,
    /// Numeric primary group.
    pub gid: u32,
}

impl Ownership {
    /// What `user` owns.
    pub fn of(user: &User) -> Self {
        Self {
            uid: user.uid,
            gid: user.gid,
        }
    }

    /// The agent's own user and group.
    pub fn own() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// Gives the entry at `path` to this owner; a final link itself, not what it leads to.
    /// Does nothing for the agent's own user, so an agent without root can work for itself.
    ///
    /// # Errors
    /// The errno of the failed call.
    pub fn give(self, path: &Path) -> io::Result<()> {
        if self == Self::own() {
            return Ok(());
        }
        let (uid, gid) = self.ids();
        Ok(chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives the open file to this owner.
    ///
    /// # Errors
    /// The errno of the failed call.
    pub fn give_open(self, file: impl AsFd) -> io::Result<()> {
        let (uid, gid) = self.ids();
        Ok(fchown(file, uid, gid)?)
    }

    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}
