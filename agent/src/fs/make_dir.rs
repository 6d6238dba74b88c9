//! MakeDir, and the parents that uploads and moves need.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::error::FsError;
use super::ownership::Ownership;

/// Mode of created directories, before the process's umask.
const MODE: u32 = 0o755;

/// Creates the directory `path` and the missing ones above it, all owned by `owner`.
///
/// # Errors
/// [`FsError`]: the directory exists (`already_exists`), something else stands at `path` or above
/// it (`invalid_argument`), or the errno of a failed call.
pub fn make_dir(path: &Path, owner: Ownership) -> Result<(), FsError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(FsError::DirectoryExists(path.to_path_buf())),
        Ok(_) => Err(FsError::InTheWay(path.to_path_buf())),
        Err(_) => ensure_dirs(path, owner),
    }
}

/// Makes sure that `path` is a directory, creating what is missing with `owner`; directories that
/// are there keep their owner and mode.
///
/// # Errors
/// [`FsError`]: something else stands in the way (`invalid_argument`), or the errno of a failed
/// call.
pub fn ensure_dirs(path: &Path, owner: Ownership) -> Result<(), FsError> {
    let mut missing = Vec::new();
    for above in path.ancestors() {
        match std::fs::metadata(above) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(FsError::InTheWay(above.to_path_buf())),
            Err(error) if is_missing(&error) => missing.push(above),
            Err(error) => return Err(FsError::io("error examining", above, error)),
        }
    }
    for dir in missing.iter().rev() {
        create(dir, owner)?;
    }
    Ok(())
}

fn create(dir: &Path, owner: Ownership) -> Result<(), FsError> {
    match std::fs::DirBuilder::new().mode(MODE).create(dir) {
        Ok(()) => owner
            .give(dir)
            .map_err(|error| FsError::io("error changing the owner of", dir, error)),
        // Another request made it first (or a broken link stands there: that is in the way).
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if dir.is_dir() {
                Ok(())
            } else {
                Err(FsError::InTheWay(dir.to_path_buf()))
            }
        }
        Err(error) => Err(FsError::io("error creating directory", dir, error)),
    }
}

/// `ENOTDIR` is kept among the missing: the file that causes it is met further up.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::Kind;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn parents_are_created_for_the_owner_and_existing_ones_kept() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = Ownership { uid: 1234, gid: 5678 };
        make_dir(&dir.path().join("a/b/c"), owner).unwrap();
        for (path, uid) in [("a", 1234), ("a/b/c", 1234), ("", 0)] {
            let found = std::fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(found.uid(), uid, "{path}");
        }
        assert_eq!(std::fs::metadata(dir.path().join("a")).unwrap().gid(), 5678);
    }

    #[test]
    fn refusals() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        symlink("nowhere", dir.path().join("broken")).unwrap();
        for (path, want) in [
            ("", Kind::AlreadyExists),
            ("file", Kind::InvalidArgument),
            ("file/x/y", Kind::InvalidArgument),
            ("broken", Kind::InvalidArgument),
        ] {
            let error = make_dir(&dir.path().join(path), Ownership::own()).unwrap_err();
            assert_eq!(error.kind(), want, "{path}: {error}");
        }
    }
}
