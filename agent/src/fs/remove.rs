//! Remove: a file, a link, or a whole directory.

use std::io;
use std::path::Path;

use super::error::FsError;

/// Removes what is at `path`, directories with everything in them, links themselves and never what
/// they lead to. Something that is not there counts as removed.
///
/// # Errors
/// [`FsError`]: the root directory (`invalid_argument`), or the errno of a failed call; entries
/// removed before the failure stay removed.
pub fn remove(path: &Path) -> Result<(), FsError> {
    if path == Path::new("/") {
        return Err(FsError::Refused("the root directory cannot be removed".to_owned()));
    }
    let result = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if !is_gone(&error) => Err(FsError::io("error removing", path, error)),
        _ => Ok(()),
    }
}

/// A path below a file names nothing, so it counts as gone too.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_links_trees_and_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("tree/deep/er")).unwrap();
        std::fs::write(at("tree/deep/f"), b"").unwrap();
        std::fs::create_dir(at("kept")).unwrap();
        std::fs::write(at("kept/f"), b"").unwrap();
        symlink("kept", at("link")).unwrap();
        symlink("../kept", at("tree/link")).unwrap();
        for name in ["tree", "link", "missing", "kept/f/below"] {
            remove(&at(name)).unwrap();
            assert!(std::fs::symlink_metadata(at(name)).is_err(), "{name}");
        }
        assert!(at("kept/f").exists());
    }

    #[test]
    fn the_root_directory_is_refused() {
        assert!(matches!(remove(Path::new("/")), Err(FsError::Refused(_))));
    }
}
