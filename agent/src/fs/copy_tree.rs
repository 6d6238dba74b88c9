//! A faithful copy of a file or tree, for moves across file systems.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, mknodat, utimensat};

use super::error::FsError;
use super::metadata;
use super::ownership::Ownership;

/// Copies `source` to `destination`, which must not exist: content, mode, owner, modification time
/// and our metadata; links as links; FIFOs and devices as such. Sockets are left out, since a copy
/// of one connects to nothing.
///
/// # Errors
/// The first failed call; what was copied until then stays for the caller to remove.
pub fn copy_tree(source: &Path, destination: &Path) -> Result<(), FsError> {
    // Directories are finished last to first, after their entries: filling a directory changes its
    // time, and a read-only one could not be filled.
    let mut finish: Vec<(PathBuf, Metadata)> = Vec::new();
    let mut pending = vec![(source.to_path_buf(), destination.to_path_buf())];
    while let Some((from, to)) = pending.pop() {
        let failed = |error| FsError::io("error copying", &from, error);
        let found = std::fs::symlink_metadata(&from).map_err(failed)?;
        if found.is_dir() {
            std::fs::create_dir(&to).map_err(failed)?;
            for entry in std::fs::read_dir(&from).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                pending.push((from.join(&name), to.join(&name)));
            }
            finish.push((to, found));
        } else if copy_one(&from, &to, &found).map_err(failed)? {
            dress(&from, &to, &found).map_err(failed)?;
        }
    }
    for (dir, found) in finish.iter().rev() {
        let below = dir.strip_prefix(destination).unwrap_or(Path::new(""));
        let from = if below.as_os_str().is_empty() {
            source.to_path_buf()
        } else {
            source.join(below)
        };
        dress(&from, dir, found).map_err(|error| FsError::io("error copying", &from, error))?;
    }
    Ok(())
}

/// Returns whether a copy was made.
fn copy_one(from: &Path, to: &Path, found: &Metadata) -> io::Result<bool> {
    let kind = found.file_type();
    if kind.is_symlink() {
        symlink(std::fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?)?;
    } else if kind.is_socket() {
        return Ok(false);
    } else {
        let node = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_char_device() {
            FileType::CharacterDevice
        } else {
            FileType::BlockDevice
        };
        mknodat(CWD, to, node, Mode::from_raw_mode(0o600), found.rdev())?;
    }
    Ok(true)
}

/// Gives the copy its owner, mode, time and metadata, in this order: changing the owner clears
/// set-user-id bits, and every change moves the time.
fn dress(from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
    Ownership {
        uid: found.uid(),
        gid: found.gid(),
    }
    .give(to)?;
    if !found.file_type().is_symlink() {
        let pairs = metadata::read(from).unwrap_or_default();
        if !pairs.is_empty() {
            metadata::replace(to, &pairs)?;
        }
        std::fs::set_permissions(to, Permissions::from_mode(found.mode() & 0o7777))?;
    }
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: found.mtime(),
            tv_nsec: found.mtime_nsec(),
        },
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_everything_in_it() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("from/sub/ro")).unwrap();
        std::fs::write(at("from/sub/f"), vec![7; 300_000]).unwrap();
        std::fs::write(at("from/sub/ro/f"), b"x").unwrap();
        symlink("../gone", at("from/link")).unwrap();
        mknodat(CWD, at("from/pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        let mode = |path: PathBuf| std::fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        std::fs::set_permissions(at("from/sub/f"), Permissions::from_mode(0o4751)).unwrap();
        std::fs::set_permissions(at("from/sub/ro"), Permissions::from_mode(0o555)).unwrap();
        metadata::replace(&at("from/sub/f"), &[("k".to_owned(), "v".to_owned())].into()).unwrap();

        copy_tree(&at("from"), &at("to")).unwrap();

        assert_eq!(std::fs::read(at("to/sub/f")).unwrap(), vec![7; 300_000]);
        assert_eq!(mode(at("to/sub/f")), 0o4751);
        assert_eq!(mode(at("to/sub/ro")), 0o555);
        assert_eq!(metadata::read(&at("to/sub/f")).unwrap()["k"], "v");
        assert_eq!(std::fs::read_link(at("to/link")).unwrap(), Path::new("../gone"));
        let pipe = std::fs::symlink_metadata(at("to/pipe")).unwrap();
        assert!(pipe.file_type().is_fifo());
        for path in ["sub/f", "sub", "link", ""] {
            let time = |side: &str| {
                let found = std::fs::symlink_metadata(at(side).join(path)).unwrap();
                (found.mtime(), found.mtime_nsec())
            };
            assert_eq!(time("from"), time("to"), "{path}");
        }
        std::fs::set_permissions(at("to/sub/ro"), Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(at("from/sub/ro"), Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn an_existing_destination_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        std::fs::write(dir.path().join("b"), b"b").unwrap();
        assert!(copy_tree(&dir.path().join("a"), &dir.path().join("b")).is_err());
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"b");
    }
}
