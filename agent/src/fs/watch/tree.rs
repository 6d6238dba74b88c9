//! The set of watched directories and the translation of kernel events.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::mem::take;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{CreateFlags, ReadFlags, add_watch, init, remove_watch};
use rustix::io::Errno;

use super::event::{Event, EventKind, WatchOptions};
use super::kernel::{self, Raw, kind_of, mask};
use super::scan;
use crate::fs::entry::Entry;
use crate::fs::error::FsError;
use crate::fs::owners::OwnerNames;

/// Directories one watcher may hold; the kernel's own limit (often 8,192 for a user) may be lower.
pub const MAX_DIRECTORIES: usize = 65_536;
/// Events one go may produce; only a huge tree moved in at once exceeds it.
const MAX_EVENTS: usize = 65_536;

const LOST_IN_KERNEL: &str =
    "events were lost: changes came faster than they were read; list the directory and watch again";
const LOST_IN_SCAN: &str = "events were lost: too many entries appeared at once; list the directory and watch again";

/// What one [`Tree::drain`] produced.
#[derive(Debug, Default)]
pub struct Drained {
    /// Changes in the order they happened.
    pub events: Vec<Event>,
    /// Whether the kernel had nothing more; otherwise drain again without waiting.
    pub emptied: bool,
}

/// A watched directory with everything below it, if so asked.
#[derive(Debug)]
pub struct Tree {
    inotify: Arc<OwnedFd>,
    options: WatchOptions,
    /// Watched directories: watch descriptor to path relative to the root (empty for the root).
    dirs: HashMap<i32, PathBuf>,
    /// Entries reported from a scan whose own kernel event may still come. Two generations: those
    /// of this drain, and of the one before.
    scanned: HashSet<(i32, OsString)>,
    scanned_before: HashSet<(i32, OsString)>,
    /// A directory moved away whose new place may be told by the very next event.
    moving: Option<(u32, PathBuf)>,
}

impl Tree {
    /// Starts watching. Changes from now on are reported, whatever is there already is not.
    ///
    /// # Errors
    /// [`FsError`]: the errno of a failed call, or a limit on watches.
    pub fn start(options: WatchOptions) -> Result<Self, FsError> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|errno| {
            if errno == Errno::MFILE {
                FsError::LimitReached(
                    "the system's limit on inotify instances is reached: remove watchers first".to_owned(),
                )
            } else {
                FsError::io("error creating a watcher for", &options.path, errno)
            }
        })?;
        let mut tree = Self {
            inotify: Arc::new(inotify),
            options,
            dirs: HashMap::new(),
            scanned: HashSet::new(),
            scanned_before: HashSet::new(),
            moving: None,
        };
        let wd = add_watch(&tree.inotify, &tree.options.path, mask(false))
            .map_err(|errno| FsError::io("error watching", &tree.options.path, errno))?;
        tree.dirs.insert(wd, PathBuf::new());
        if tree.options.recursive {
            tree.add_below(wd, Path::new(""), None)?;
        }
        Ok(tree)
    }

    /// The inotify descriptor, to wait on.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.inotify)
    }

    /// Takes what the kernel has queued; never blocks on it.
    ///
    /// # Errors
    /// [`FsError::EventsLost`] after an overflow, a limit on watches, or the errno of reading. The
    /// tree is of no more use then.
    pub fn drain(&mut self) -> Result<Drained, FsError> {
        let (batch, emptied) = kernel::read(&self.inotify)
            .map_err(|errno| FsError::io("error reading events of", &self.options.path, errno))?;
        let mut events = Vec::new();
        for raw in batch {
            self.translate(raw, &mut events)?;
        }
        if emptied {
            self.settle_move();
            self.scanned_before = take(&mut self.scanned);
        }
        if self.options.include_entry {
            self.attach_entries(&mut events);
        }
        Ok(Drained {
            // A scan may have raced with events that are queued by now.
            emptied: emptied && self.scanned_before.is_empty(),
            events,
        })
    }

    fn translate(&mut self, raw: Raw, events: &mut Vec<Event>) -> Result<(), FsError> {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(FsError::EventsLost(LOST_IN_KERNEL));
        }
        let moved_from = self.moving.take();
        let continues = raw.flags.contains(ReadFlags::MOVED_TO)
            && moved_from.as_ref().is_some_and(|(cookie, _)| *cookie == raw.cookie);
        if !continues {
            self.moving = moved_from.clone();
            self.settle_move();
        }
        let Some(parent) = self.dirs.get(&raw.wd).cloned() else {
            return Ok(());
        };
        if raw.flags.contains(ReadFlags::IGNORED) {
            self.dirs.remove(&raw.wd);
            return Ok(());
        }
        let Some(kind) = kind_of(raw.flags) else {
            return Ok(());
        };
        let Some(name) = raw.name else {
            // The directory's own change. Below the root the parent's event tells it already.
            if parent.as_os_str().is_empty() {
                push(events, ".".to_owned(), kind);
            }
            return Ok(());
        };
        let path = parent.join(&name);
        let key = (raw.wd, name);
        if kind == EventKind::Create {
            if self.scanned.remove(&key) || self.scanned_before.remove(&key) {
                return Ok(());
            }
        } else if matches!(kind, EventKind::Remove | EventKind::Rename) {
            self.scanned.remove(&key);
            self.scanned_before.remove(&key);
        }
        push(events, path.to_string_lossy().into_owned(), kind);
        if self.options.recursive && raw.flags.contains(ReadFlags::ISDIR) {
            match (kind, moved_from) {
                (EventKind::Rename, _) => self.moving = Some((raw.cookie, path)),
                (EventKind::Create, Some((_, old))) if continues => self.rebase(&old, &path),
                (EventKind::Create, _) => self.add(&path, Some(events))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Watches the directory `below` and all in it. With `events`, its entries are reported as
    /// created: they came before the watch did.
    fn add(&mut self, below: &Path, events: Option<&mut Vec<Event>>) -> Result<(), FsError> {
        match self.watch(below)? {
            Some(wd) => self.add_below(wd, below, events),
            None => Ok(()),
        }
    }

    fn add_below(&mut self, wd: i32, below: &Path, mut events: Option<&mut Vec<Event>>) -> Result<(), FsError> {
        let mut pending = vec![(wd, below.to_path_buf())];
        while let Some((wd, dir)) = pending.pop() {
            for found in scan::entries(&self.options.path.join(&dir)) {
                let path = dir.join(&found.name);
                if let Some(events) = events.as_deref_mut() {
                    if events.len() >= MAX_EVENTS {
                        return Err(FsError::EventsLost(LOST_IN_SCAN));
                    }
                    let name = path.to_string_lossy().into_owned();
                    push(events, name.clone(), EventKind::Create);
                    if found.has_content {
                        push(events, name, EventKind::Write);
                    }
                    self.scanned.insert((wd, found.name));
                }
                if found.is_dir
                    && let Some(wd) = self.watch(&path)?
                {
                    pending.push((wd, path));
                }
            }
        }
        Ok(())
    }

    /// Adds one watch. `None` when the directory is gone, out of reach, or watched already.
    fn watch(&mut self, below: &Path) -> Result<Option<i32>, FsError> {
        let full = self.options.path.join(below);
        let wd = match add_watch(&self.inotify, &full, mask(true)) {
            Ok(wd) => wd,
            Err(Errno::NOSPC) => return Err(too_many()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(FsError::io("error watching", &full, errno)),
        };
        match self.dirs.get(&wd).cloned() {
            // The same directory under another path: it was moved here, which its own event will
            // tell later.
            Some(old) if old != below => {
                self.rebase(&old, below);
                Ok(None)
            }
            Some(_) => Ok(None),
            None if self.dirs.len() >= MAX_DIRECTORIES => Err(too_many()),
            None => {
                self.dirs.insert(wd, below.to_path_buf());
                Ok(Some(wd))
            }
        }
    }

    /// A directory moved within the tree keeps its watches under new paths.
    fn rebase(&mut self, old: &Path, new: &Path) {
        for path in self.dirs.values_mut() {
            if let Ok(rest) = path.strip_prefix(old) {
                *path = new.join(rest);
            }
        }
    }

    /// A directory that was moved out of the tree is no longer ours.
    fn settle_move(&mut self) {
        let Some((_, gone)) = self.moving.take() else {
            return;
        };
        let stale: Vec<i32> = self
            .dirs
            .iter()
            .filter_map(|(&wd, path)| path.starts_with(&gone).then_some(wd))
            .collect();
        for wd in stale {
            self.dirs.remove(&wd);
            // Fails only when the watch ended by itself meanwhile, which is what is wanted.
            let _gone = remove_watch(&self.inotify, wd);
        }
    }

    fn attach_entries(&self, events: &mut [Event]) {
        let owners = OwnerNames::load();
        for event in events {
            if !matches!(event.kind, EventKind::Remove | EventKind::Rename) {
                let path = match event.name.as_str() {
                    "." => self.options.path.clone(),
                    name => self.options.path.join(name),
                };
                event.entry = Entry::read(&path, &owners).ok();
            }
        }
    }
}

fn too_many() -> FsError {
    FsError::LimitReached(
        "too many directories to watch: the limit on inotify watches is reached; \
         watch a smaller tree or raise fs.inotify.max_user_watches"
            .to_owned(),
    )
}

/// Appends an event unless it repeats the last one: a large write is one change to the reader.
fn push(events: &mut Vec<Event>, name: String, kind: EventKind) {
    let repeats = events.last().is_some_and(|last| last.name == name && last.kind == kind);
    if !repeats {
        events.push(Event {
            name,
            kind,
            entry: None,
        });
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
