//! ListDir: a directory's entries down to a depth, in lexical order.

use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::error::FsError;
use super::owners::OwnerNames;

/// Entries in one answer: about 60 MiB of JSON, held whole.
pub const MAX_ENTRIES: usize = 100_000;

/// Lists what is below `requested`, depth first: each directory comes right before its own
/// entries, siblings in byte order of their names. Links are listed, never followed, except
/// `requested` itself. Paths in the result start with `requested` as asked.
///
/// Args:
/// * `depth`: levels to go down; 0 means 1.
///
/// An entry that vanishes while listing is left out. A directory further down that cannot be read
/// is listed without its entries.
///
/// # Errors
/// [`FsError`]: not found, not a directory (`invalid_argument`), cyclic link
/// (`failed_precondition`), more than [`MAX_ENTRIES`] (`resource_exhausted`), or the errno of
/// reading `requested`.
pub fn list(requested: &Path, depth: u32) -> Result<Vec<Entry>, FsError> {
    let action = "error listing directory";
    let real = std::fs::canonicalize(requested).map_err(|error| FsError::io(action, requested, error))?;
    let found = std::fs::metadata(&real).map_err(|error| FsError::io(action, requested, error))?;
    if !found.is_dir() {
        return Err(FsError::NotADirectory(requested.to_path_buf()));
    }
    walk(requested, &real, depth, MAX_ENTRIES)
}

fn walk(requested: &Path, real: &Path, depth: u32, most: usize) -> Result<Vec<Entry>, FsError> {
    let action = "error listing directory";
    let owners = OwnerNames::load();
    let mut entries = Vec::new();
    // A stack of levels instead of recursion: depth is the client's number, the stack is ours.
    let first = children(real).map_err(|error| FsError::io(action, requested, error))?;
    let mut levels = vec![first.into_iter()];
    let mut shown = vec![requested.to_path_buf()];
    while let Some(level) = levels.last_mut() {
        let Some(child) = level.next() else {
            levels.pop();
            shown.pop();
            continue;
        };
        let Ok(found) = std::fs::symlink_metadata(&child) else {
            continue;
        };
        let (Some(parent), Some(name)) = (shown.last(), child.file_name()) else {
            continue;
        };
        if entries.len() >= most {
            return Err(FsError::LimitReached(format!(
                "{} holds more than {most} entries down to depth {depth}: list with a smaller depth, \
                 or its directories one by one",
                requested.display()
            )));
        }
        let path = parent.join(name);
        entries.push(Entry::from_metadata(&path, &child, &found, &owners));
        if found.is_dir() && levels.len() < usize::try_from(depth).unwrap_or(usize::MAX) {
            levels.push(children(&child).unwrap_or_default().into_iter());
            shown.push(path);
        }
    }
    Ok(entries)
}

fn children(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::Kind;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("b/c/d")).unwrap();
        for file in ["a", "b/2", "b/1", "b/c/x", "b.txt", "Z"] {
            std::fs::write(root.join(file), b"").unwrap();
        }
        symlink("b", root.join("link")).unwrap();
        (dir, root)
    }

    fn names(root: &Path, entries: &[Entry]) -> Vec<String> {
        let strip = |entry: &Entry| {
            Path::new(&entry.path)
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        entries.iter().map(strip).collect()
    }

    #[test]
    fn depths_and_order() {
        let (_keep, root) = tree();
        let one = vec!["Z", "a", "b", "b.txt", "link"];
        let two = vec!["Z", "a", "b", "b/1", "b/2", "b/c", "b.txt", "link"];
        for (depth, want) in [(0, &one), (1, &one), (2, &two)] {
            assert_eq!(names(&root, &list(&root, depth).unwrap()), *want, "{depth}");
        }
        assert_eq!(list(&root, u32::MAX).unwrap().len(), 10);
    }

    #[test]
    fn an_answer_has_a_largest_size() {
        let (_keep, root) = tree();
        assert_eq!(walk(&root, &root, 1, 5).unwrap().len(), 5);
        let error = walk(&root, &root, 1, 4).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
    }

    #[test]
    fn a_link_to_a_directory_is_listed_under_its_own_name() {
        let (_keep, root) = tree();
        let link = root.join("link");
        let entries = list(&link, 1).unwrap();
        assert_eq!(names(&link, &entries), ["1", "2", "c"]);
    }

    #[test]
    fn refusals() {
        let (_keep, root) = tree();
        symlink("loop", root.join("loop")).unwrap();
        for (path, want) in [
            ("missing", Kind::NotFound),
            ("a", Kind::InvalidArgument),
            ("a/below", Kind::NotFound),
            ("loop", Kind::FailedPrecondition),
        ] {
            assert_eq!(list(&root.join(path), 1).unwrap_err().kind(), want, "{path}");
        }
    }
}
