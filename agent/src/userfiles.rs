//! `/etc/passwd` and `/etc/group`, read again only when they were written again: every command asks for its user, and
//! a look at a file's status takes a fraction of the time of opening it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time;

/// Larger files are refused, in bytes (1 MiB).
const MAX_FILE: u64 = 1024 * 1024;
/// Larger files are read anew each time, in bytes (64 KiB).
const MAX_KEPT: u64 = 64 * 1024;
/// A file that was written a shorter time ago can be written again without its time stamps changing.
const SETTLED: Duration = Duration::from_secs(2);

static ALL_KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    path: PathBuf,
    seen: Seen,
    text: Arc<str>,
}

/// Differs when the file is another one or was written since: device, inode, size, and when its contents and its status
/// last changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen(u64, u64, u64, (i64, i64), (i64, i64));

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self(
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            (metadata.mtime(), metadata.mtime_nsec()),
            (metadata.ctime(), metadata.ctime_nsec()),
        )
    }
}

/// What the file holds; nothing when there is none. Fails for one that is not regular, or larger than 1 MiB.
pub fn read(path: &Path) -> io::Result<Arc<str>> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("not a regular file")),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(io::Error::other("larger than 1 MiB")),
        Ok(metadata) => metadata,
    };
    let seen = Seen::of(&metadata);
    let mut all_kept = ALL_KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = all_kept.iter().find(|kept| kept.path == path && kept.seen == seen) {
        return Ok(Arc::clone(&kept.text));
    }
    let text: Arc<str> = String::from_utf8_lossy(&std::fs::read(path)?).into();
    all_kept.retain(|kept| kept.path != path);
    if metadata.len() <= MAX_KEPT && is_settled(&metadata) {
        all_kept.push(Kept {
            path: path.to_path_buf(),
            seen,
            text: Arc::clone(&text),
        });
    }
    Ok(text)
}

fn is_settled(metadata: &Metadata) -> bool {
    let now = time::now();
    [metadata.mtime(), metadata.ctime()].into_iter().all(|seconds| {
        u64::try_from(seconds).is_ok_and(|seconds| now.saturating_sub(Duration::from_secs(seconds)) > SETTLED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_was_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("passwd"), dir.path().join("other"));
        for text in ["a:x:1:1::/:", "b:x:1:1::/:"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(&*read(&path).unwrap(), text);
        }
        std::fs::write(&other, "c:x:1:1::/:").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(&*read(&path).unwrap(), "c:x:1:1::/:");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*read(&path).unwrap(), "");
    }

    #[test]
    fn only_what_was_written_some_time_ago_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("group"), Path::new("/etc/passwd"));
        std::fs::write(&new, "x").unwrap();
        assert!(!Arc::ptr_eq(&read(&new).unwrap(), &read(&new).unwrap()));
        assert!(Arc::ptr_eq(&read(old).unwrap(), &read(old).unwrap()));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
        for path in [dir.path(), Path::new("/dev/null"), &large] {
            assert!(read(path).is_err(), "{}", path.display());
        }
    }
}
