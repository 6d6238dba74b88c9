//! What a watcher reports, and what it was asked to watch.

use std::path::PathBuf;

use crate::fs::entry::Entry;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It appeared, created or moved here (then under its new name).
    Create,
    /// Its content changed.
    Write,
    /// It was removed.
    Remove,
    /// It was moved away; the event bears the old name.
    Rename,
    /// Its mode, owner, times or attributes changed.
    Chmod,
}

/// One change below a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Path relative to the watched directory; `.` for the directory itself.
    pub name: String,
    /// What happened.
    pub kind: EventKind,
    /// The entry as it is now, when asked for and still there. Never set for `Remove` and `Rename`.
    pub entry: Option<Entry>,
}

/// What to watch and how.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Absolute path of a directory; a link to one is followed.
    pub path: PathBuf,
    /// Also watch every directory below, those made later included. Links below are not followed.
    pub recursive: bool,
    /// Report the entry with each event.
    pub include_entry: bool,
    /// Watch even on NFS, CIFS and FUSE, where changes made elsewhere go unnoticed.
    pub allow_network_mounts: bool,
}
