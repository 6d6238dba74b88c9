//! What the agent says about one file-system entry.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::metadata;
use super::owners::OwnerNames;
use super::path::base_name;

/// Kind of an entry. For a symbolic link it is the kind of what the link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A FIFO, socket or device.
    Unspecified,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that leads nowhere (missing target or cycle).
    Symlink,
}

/// One entry as `filesystem.EntryInfo` carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Last component of `path`, `/` for the root directory.
    pub name: String,
    /// Kind, links followed.
    pub file_type: FileType,
    /// Absolute path, based on the path the client asked for.
    pub path: String,
    /// Bytes; for a link the length of its text.
    pub size: i64,
    /// Permission bits (`0o777` mask), links followed.
    pub mode: u32,
    /// Text form such as `-rw-r--r--`, of the entry itself (`L` first for a link).
    pub permissions: String,
    /// Owner's name, or the number when `/etc/passwd` has none.
    pub owner: String,
    /// Group's name, or the number when `/etc/group` has none.
    pub group: String,
    /// Modification time: whole seconds since 1970 and nanoseconds.
    pub modified: (i64, i32),
    /// For a link: the resolved target, or the link's own path when it leads nowhere.
    pub symlink_target: Option<String>,
    /// Upload metadata (`user.e2b.*` extended attributes), prefix removed.
    pub metadata: BTreeMap<String, String>,
}

impl Entry {
    /// Reads the entry at `path` without following a final link.
    ///
    /// # Errors
    /// The `lstat` error; anything that fails after it (an unreadable attribute, a link that leads
    /// nowhere) leaves the field empty instead.
    pub fn read(path: &Path, owners: &OwnerNames) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self::from_metadata(path, path, &found, owners))
    }

    /// Builds the entry from an `lstat` result already at hand.
    ///
    /// Args:
    /// * `shown`: the path to report.
    /// * `real`: the path to read links and attributes from; differs from `shown` when a listing
    ///   was asked through a link.
    pub fn from_metadata(shown: &Path, real: &Path, found: &Metadata, owners: &OwnerNames) -> Self {
        let (file_type, mode, symlink_target) = if found.file_type().is_symlink() {
            link_facts(shown, real)
        } else {
            (kind(found), found.mode() & 0o777, None)
        };
        let metadata = match file_type {
            FileType::File | FileType::Directory => metadata::read(real).unwrap_or_default(),
            FileType::Unspecified | FileType::Symlink => BTreeMap::new(),
        };
        Self {
            name: base_name(shown),
            file_type,
            path: shown.to_string_lossy().into_owned(),
            size: i64::try_from(found.size()).unwrap_or(i64::MAX),
            mode,
            permissions: permissions(found),
            owner: owners.user(found.uid()),
            group: owners.group(found.gid()),
            modified: (found.mtime(), i32::try_from(found.mtime_nsec()).unwrap_or(0)),
            symlink_target,
            metadata,
        }
    }
}

fn link_facts(shown: &Path, real: &Path) -> (FileType, u32, Option<String>) {
    match std::fs::canonicalize(real).and_then(|to| Ok((std::fs::metadata(&to)?, to))) {
        Ok((target, to)) => (
            kind(&target),
            target.mode() & 0o777,
            Some(to.to_string_lossy().into_owned()),
        ),
        Err(_) => (FileType::Symlink, 0, Some(shown.to_string_lossy().into_owned())),
    }
}

fn kind(found: &Metadata) -> FileType {
    if found.is_file() {
        FileType::File
    } else if found.is_dir() {
        FileType::Directory
    } else {
        FileType::Unspecified
    }
}

/// The mode text of Go's `fs.FileMode`, which is what existing clients show: one letter per
/// property in a fixed order, or `-`, then nine permission letters.
fn permissions(found: &Metadata) -> String {
    let kind = found.file_type();
    let mode = found.mode();
    let device = kind.is_block_device() || kind.is_char_device();
    let mut text: String = [
        (kind.is_dir(), 'd'),
        (kind.is_symlink(), 'L'),
        (device, 'D'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 'S'),
        (mode & 0o4000 != 0, 'u'),
        (mode & 0o2000 != 0, 'g'),
        (kind.is_char_device(), 'c'),
        (mode & 0o1000 != 0, 't'),
    ]
    .iter()
    .filter_map(|&(set, letter)| set.then_some(letter))
    .collect();
    if text.is_empty() {
        text.push('-');
    }
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        let set = mode & (0o400 >> index) != 0;
        text.push(if set { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn read(path: &Path) -> Entry {
        Entry::read(path, &OwnerNames::load()).unwrap()
    }

    #[test]
    fn permission_texts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"abc").unwrap();
        for (mode, want) in [
            (0o644, "-rw-r--r--"),
            (0o4755, "urwxr-xr-x"),
            (0o2750, "grwxr-x---"),
            (0, "----------"),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&file).permissions, want);
        }
        assert_eq!(read(Path::new("/dev/null")).permissions, "Dcrw-rw-rw-");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(read(dir.path()).permissions, "dtrwxrwxrwx");
    }

    #[test]
    fn a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"abc").unwrap();
        let entry = read(&file);
        assert_eq!((entry.name.as_str(), entry.size), ("f", 3));
        assert_eq!(entry.file_type, FileType::File);
        assert_eq!(entry.symlink_target, None);
        assert!(entry.modified.0 > 1_500_000_000);
    }

    #[test]
    fn a_link_reports_its_targets_kind_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        symlink("d", root.join("one")).unwrap();
        symlink("one", root.join("two")).unwrap();
        let entry = read(&root.join("two"));
        assert_eq!(entry.file_type, FileType::Directory);
        assert_eq!(entry.permissions, "Lrwxrwxrwx");
        assert_eq!(
            entry.symlink_target,
            Some(root.join("d").to_string_lossy().into_owned())
        );
    }

    #[test]
    fn links_that_lead_nowhere_stay_visible() {
        let dir = tempfile::tempdir().unwrap();
        for (name, target) in [("broken", "missing"), ("cycle", "cycle")] {
            let link = dir.path().join(name);
            symlink(target, &link).unwrap();
            let entry = read(&link);
            assert_eq!(entry.file_type, FileType::Symlink, "{name}");
            assert_eq!(entry.symlink_target, Some(link.to_string_lossy().into_owned()));
        }
    }

    #[test]
    fn a_missing_entry_is_an_error() {
        let error = Entry::read(Path::new("/no/such"), &OwnerNames::load()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
