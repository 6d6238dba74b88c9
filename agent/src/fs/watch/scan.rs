//! Looking into directories that appeared: the part of recursive watching that inotify leaves to us.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An entry found in a directory, with what decides how it is reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub name: OsString,
    pub is_dir: bool,
    /// A regular file that somebody has written to already.
    pub has_content: bool,
}

/// The entries of `dir` in byte order; empty when it is gone or unreadable, because a directory
/// that vanished again is reported by its own event.
pub(super) fn entries(dir: &Path) -> Vec<Found> {
    let Ok(listing) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<Found> = listing
        .flatten()
        .filter_map(|entry| {
            let facts = entry.path().symlink_metadata().ok()?;
            Some(Found {
                name: entry.file_name(),
                is_dir: facts.is_dir(),
                has_content: facts.is_file() && facts.size() > 0,
            })
        })
        .collect();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("c")).unwrap();
        std::fs::write(dir.path().join("b"), b"x").unwrap();
        std::fs::write(dir.path().join("a"), b"").unwrap();
        std::os::unix::fs::symlink("c", dir.path().join("d")).unwrap();
        let found = entries(dir.path());
        let facts: Vec<_> = found
            .iter()
            .map(|entry| (entry.name.to_str().unwrap(), entry.is_dir, entry.has_content))
            .collect();
        assert_eq!(
            facts,
            [
                ("a", false, false),
                ("b", false, true),
                ("c", true, false),
                ("d", false, false)
            ]
        );
        assert_eq!(entries(Path::new("/no/such")), []);
    }
}
