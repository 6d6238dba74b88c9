//! The inotify side: which events are asked for, how they are read, what they mean.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::event::EventKind;

/// Kernel events taken in one go.
const BATCH: usize = 1024;

/// A kernel event, copied out of the read buffer.
#[derive(Debug)]
pub(in crate::fs) struct Raw {
    pub wd: i32,
    pub flags: ReadFlags,
    pub cookie: u32,
    /// Name within the watched directory; absent when the directory itself is meant.
    pub name: Option<OsString>,
}

/// Takes about [`BATCH`] queued events without waiting; the flag tells that none are left.
pub(in crate::fs) fn read(inotify: &OwnedFd) -> Result<(Vec<Raw>, bool), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut batch = Vec::new();
    // What one read took from the kernel must be used up, or it is lost.
    while batch.len() < BATCH || !reader.is_buffer_empty() {
        match reader.next() {
            Ok(event) => batch.push(Raw {
                wd: event.wd(),
                flags: event.events(),
                cookie: event.cookie(),
                name: event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned())
                    .filter(|name| !name.is_empty()),
            }),
            Err(Errno::AGAIN) => return Ok((batch, true)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok((batch, false))
}

pub(super) fn mask(below_root: bool) -> WatchFlags {
    let mut mask = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    if below_root {
        mask |= WatchFlags::DONT_FOLLOW;
    }
    mask
}

pub(super) fn kind_of(flags: ReadFlags) -> Option<EventKind> {
    let table = [
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, EventKind::Create),
        (ReadFlags::MODIFY, EventKind::Write),
        (ReadFlags::DELETE | ReadFlags::DELETE_SELF, EventKind::Remove),
        (ReadFlags::MOVED_FROM | ReadFlags::MOVE_SELF, EventKind::Rename),
        (ReadFlags::ATTRIB, EventKind::Chmod),
    ];
    table
        .into_iter()
        .find_map(|(bits, kind)| flags.intersects(bits).then_some(kind))
}
