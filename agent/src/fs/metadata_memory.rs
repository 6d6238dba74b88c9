//! Metadata of files whose file system has no extended attributes, kept in the agent's memory.
//!
//! gVisor's host-backed file systems are such. An entry belongs to a file, not to a path, so it
//! follows renames as an attribute would; it ends with the file, which an inotify watch tells (a
//! removed file's inode number is soon given to another). It also ends with the agent.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::stat;
use rustix::io::Errno;

use super::watch::kernel;

/// Files with metadata at once; each takes one inotify watch.
pub const MAX_FILES: usize = 1024;

type Pairs = BTreeMap<String, String>;
/// Device and inode number.
type File = (u64, u64);

static STORE: Mutex<Option<Store>> = Mutex::new(None);

struct Store {
    inotify: OwnedFd,
    files: HashMap<File, (i32, Pairs)>,
    watches: HashMap<i32, File>,
}

/// The metadata kept for the file at `path`; empty when there is none.
///
/// # Errors
/// The errno of a failed call.
pub fn read(path: &Path) -> Result<Pairs, Errno> {
    match lock().as_mut() {
        None => Ok(Pairs::new()),
        Some(store) => {
            store.forget_removed()?;
            let found = store.files.get(&key(path)?);
            Ok(found.map(|(_, pairs)| pairs.clone()).unwrap_or_default())
        }
    }
}

/// Keeps `pairs` for the file at `path` instead of what was kept; no pairs mean none.
///
/// # Errors
/// `ENOSPC` at [`MAX_FILES`] or the system's limit on watches, or the errno of a failed call.
pub fn replace(path: &Path, pairs: &Pairs) -> Result<(), Errno> {
    let mut guard = lock();
    if pairs.is_empty() && guard.is_none() {
        return Ok(());
    }
    if guard.is_none() {
        *guard = Some(Store {
            inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            files: HashMap::new(),
            watches: HashMap::new(),
        });
    }
    match guard.as_mut() {
        Some(store) => store.replace(path, pairs),
        None => Ok(()),
    }
}

impl Store {
    fn replace(&mut self, path: &Path, pairs: &Pairs) -> Result<(), Errno> {
        self.forget_removed()?;
        let file = key(path)?;
        if let Some((wd, kept)) = self.files.get_mut(&file) {
            if !pairs.is_empty() {
                kept.clone_from(pairs);
                return Ok(());
            }
            let wd = *wd;
            self.files.remove(&file);
            self.watches.remove(&wd);
            return remove_watch(&self.inotify, wd);
        }
        if pairs.is_empty() {
            return Ok(());
        }
        if self.files.len() >= MAX_FILES {
            return Err(Errno::NOSPC);
        }
        let wd = add_watch(&self.inotify, path, WatchFlags::DELETE_SELF)?;
        self.files.insert(file, (wd, pairs.clone()));
        self.watches.insert(wd, file);
        Ok(())
    }

    /// Takes the queued notices of removed files. Nothing waits for them: they are few, bounded by
    /// the number of files, and looked at before every use.
    fn forget_removed(&mut self) -> Result<(), Errno> {
        loop {
            let (events, emptied) = kernel::read(&self.inotify)?;
            for event in events {
                let ended = ReadFlags::DELETE_SELF | ReadFlags::IGNORED;
                if event.flags.intersects(ended)
                    && let Some(file) = self.watches.remove(&event.wd)
                {
                    self.files.remove(&file);
                }
            }
            if emptied {
                return Ok(());
            }
        }
    }
}

fn key(path: &Path) -> Result<File, Errno> {
    let found = stat(path)?;
    Ok((found.st_dev, found.st_ino))
}

fn lock() -> MutexGuard<'static, Option<Store>> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_the_file_and_end_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pairs = |value: &str| Pairs::from([("k".to_owned(), value.to_owned())]);
        std::fs::write(at("a"), b"").unwrap();
        std::fs::write(at("other"), b"").unwrap();
        replace(&at("a"), &pairs("1")).unwrap();
        replace(&at("a"), &pairs("2")).unwrap();
        std::fs::rename(at("a"), at("b")).unwrap();
        assert_eq!(read(&at("b")).unwrap(), pairs("2"));
        assert_eq!(read(&at("other")).unwrap(), Pairs::new());
        std::fs::remove_file(at("b")).unwrap();
        for name in ["b", "c", "d"] {
            std::fs::write(at(name), b"maybe the same inode").unwrap();
            assert_eq!(read(&at(name)).unwrap(), Pairs::new(), "{name}");
        }
        replace(&at("b"), &pairs("3")).unwrap();
        replace(&at("b"), &Pairs::new()).unwrap();
        assert_eq!(read(&at("b")).unwrap(), Pairs::new());
    }
}
