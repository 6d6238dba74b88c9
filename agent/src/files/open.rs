//! Opening a file to download, however odd it is.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::error::FileError;

/// A file up to this size is read when it is opened: one job instead of two, and its true length
/// is known, which `stat` does not tell for files of `/proc` and `/sys`.
const HEAD_BYTES: u64 = 64 * 1024;
/// Of a larger file this much is read when it is opened, to tell what it is.
const SAMPLE_BYTES: u64 = 16 * 1024;

/// A regular file, open and examined.
#[derive(Debug)]
pub struct Opened {
    /// The file, positioned after `head`.
    pub file: File,
    /// Its `fstat` result.
    pub found: Metadata,
    /// The first bytes, read already.
    pub head: Vec<u8>,
    /// Its length: `None` for a file of `/proc` or `/sys` that is longer than the head, and so
    /// must be read to its end to know.
    pub length: Option<u64>,
}

/// Opens the regular file at `path`, links followed, and reads its first bytes. Blocks, but never
/// on a FIFO or device: those are refused before and after opening.
///
/// # Errors
/// [`FileError`]: missing, a directory, not a regular file, or a failed call.
pub fn open(path: &Path) -> Result<Opened, FileError> {
    let failed = |error| FileError::reading(path, error);
    require_regular(path, &std::fs::metadata(path).map_err(failed)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    require_regular(path, &found)?;
    let mut head = Vec::new();
    if found.len() <= HEAD_BYTES {
        let limit = HEAD_BYTES + 1;
        file.by_ref().take(limit).read_to_end(&mut head).map_err(failed)?;
        let whole = (head.len() as u64) < limit;
        let length = whole.then_some(head.len() as u64);
        return Ok(Opened {
            file,
            found,
            head,
            length,
        });
    }
    file.by_ref()
        .take(SAMPLE_BYTES)
        .read_to_end(&mut head)
        .map_err(failed)?;
    let length = Some(found.len());
    Ok(Opened {
        file,
        found,
        head,
        length,
    })
}

fn require_regular(path: &Path, found: &Metadata) -> Result<(), FileError> {
    if found.is_file() {
        Ok(())
    } else if found.is_dir() {
        Err(FileError::IsDirectory(path.to_path_buf()))
    } else {
        Err(FileError::NotRegular(path.to_path_buf()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn lengths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for length in [0, 1, 65_535, 65_536, 65_537, 1_000_000_u64] {
            std::fs::write(&path, vec![1; usize::try_from(length).unwrap()]).unwrap();
            assert_eq!(open(&path).unwrap().length, Some(length));
        }
    }

    #[test]
    fn files_made_up_by_the_kernel() {
        let opened = open(Path::new("/proc/self/status")).unwrap();
        assert_eq!(opened.found.len(), 0);
        assert!(opened.head.starts_with(b"Name:"));
        assert_eq!(opened.length, Some(opened.head.len() as u64));
    }

    #[test]
    fn refusals_do_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        for (path, want) in [
            (fifo.as_path(), 400),
            (Path::new("/dev/zero"), 400),
            (Path::new("/dev/tty"), 400),
            (dir.path(), 400),
            (Path::new("/no/such"), 404),
            (Path::new("/etc/passwd/x"), 404),
        ] {
            assert_eq!(open(path).unwrap_err().status(), want, "{}", path.display());
        }
    }
}
