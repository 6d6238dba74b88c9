//! Move: rename, or copy and remove when source and destination lie on different file systems.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::copy_tree::copy_tree;
use super::error::FsError;
use super::make_dir::ensure_dirs;
use super::ownership::Ownership;
use super::path::base_name;
use super::remove::remove;

/// Moves what is at `source` to `destination`, whose missing parents are created for `owner`; the
/// moved entry keeps its own owner and mode. An existing file at `destination` is replaced, an
/// existing directory only when it is empty and a directory is moved.
///
/// Across file systems the tree is copied beside the destination first and put in place by one
/// rename, so nobody sees half of it; a failed copy is taken away and the source stays. Hard links
/// between copied files become separate files.
///
/// # Errors
/// [`FsError`]: the source is missing (`not_found`), the root or a directory into itself
/// (`invalid_argument`), a non-empty directory at the destination (`already_exists`), or the errno
/// of a failed call.
pub fn rename(source: &Path, destination: &Path, owner: Ownership) -> Result<(), FsError> {
    std::fs::symlink_metadata(source).map_err(|error| FsError::io("source file not found:", source, error))?;
    if source == Path::new("/") || destination == Path::new("/") {
        return Err(FsError::Refused(
            "the root directory can neither be moved nor replaced".to_owned(),
        ));
    }
    if source != destination && destination.starts_with(source) {
        return Err(FsError::Refused(format!(
            "cannot move {} into itself at {}",
            source.display(),
            destination.display()
        )));
    }
    if let Some(parent) = destination.parent() {
        ensure_dirs(parent, owner)?;
    }
    match std::fs::rename(source, destination) {
        Ok(()) => Ok(()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => across(source, destination),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(FsError::InTheWay(destination.to_path_buf())),
        Err(error) => Err(FsError::io("error renaming to", destination, error)),
    }
}

fn across(source: &Path, destination: &Path) -> Result<(), FsError> {
    let beside = temporary_beside(destination);
    let placed = copy_tree(source, &beside).and_then(|()| {
        std::fs::rename(&beside, destination).map_err(|error| FsError::io("error renaming to", destination, error))
    });
    if let Err(error) = placed {
        // The copy's own failure is the news; what could not be removed is named with it.
        return Err(match remove(&beside) {
            Ok(()) => error,
            Err(left) => FsError::io(
                "error renaming; a partial copy is left, because of",
                &beside,
                io::Error::other(format!("{left}, after {error}")),
            ),
        });
    }
    remove(source)
}

/// A name in the destination's directory that no one else uses.
pub(crate) fn temporary_beside(destination: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = base_name(destination);
    // Room for the suffix within the 255 bytes of a name.
    while name.len() > 200 {
        name.pop();
    }
    destination.with_file_name(format!(".{name}.atoll-{}-{number}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::Kind;
    use std::os::unix::fs::symlink;

    fn go(source: &Path, destination: &Path) -> Result<(), FsError> {
        rename(source, destination, Ownership::own())
    }

    #[test]
    fn parents_are_created_and_files_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), b"a").unwrap();
        std::fs::write(at("b"), b"b").unwrap();
        go(&at("a"), &at("x/y/a")).unwrap();
        go(&at("b"), &at("x/y/a")).unwrap();
        assert_eq!(std::fs::read(at("x/y/a")).unwrap(), b"b");
        assert!(!at("a").exists() && !at("b").exists());
    }

    #[test]
    fn links_are_moved_as_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink("nowhere", at("link")).unwrap();
        go(&at("link"), &at("moved")).unwrap();
        assert_eq!(std::fs::read_link(at("moved")).unwrap(), Path::new("nowhere"));
    }

    #[test]
    fn refusals_leave_everything_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/sub")).unwrap();
        std::fs::create_dir_all(at("full/sub")).unwrap();
        std::fs::write(at("f"), b"").unwrap();
        for (source, destination, want) in [
            ("missing", "new/x", Kind::NotFound),
            ("d", "d/sub/d", Kind::InvalidArgument),
            ("d", "full", Kind::AlreadyExists),
            ("d", "f", Kind::InvalidArgument),
            ("f", "d", Kind::InvalidArgument),
            ("d", "f/x", Kind::InvalidArgument),
        ] {
            let error = go(&at(source), &at(destination)).unwrap_err();
            assert_eq!(error.kind(), want, "{source} to {destination}: {error}");
        }
        assert!(!at("new").exists());
        assert!(at("d/sub").exists() && at("full/sub").exists());
    }

    #[test]
    fn across_file_systems() {
        let here = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        std::fs::create_dir_all(here.path().join("tree/sub")).unwrap();
        std::fs::write(here.path().join("tree/sub/f"), b"content").unwrap();
        go(&here.path().join("tree"), &there.path().join("new/tree")).unwrap();
        let moved = std::fs::read(there.path().join("new/tree/sub/f")).unwrap();
        assert_eq!(moved, b"content");
        assert!(!here.path().join("tree").exists());
        assert_eq!(std::fs::read_dir(there.path().join("new")).unwrap().count(), 1);
    }
}
