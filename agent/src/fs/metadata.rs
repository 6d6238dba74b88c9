//! User metadata of files, kept in extended attributes `user.e2b.<key>`.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::metadata_memory;

/// Attribute namespace; also counted per key in [`MAX_TOTAL_BYTES`].
const PREFIX: &str = "user.e2b.";
/// Longest key in bytes: the kernel's 255 less the namespace.
pub const MAX_KEY_BYTES: usize = 246;
/// All of one file's keys (with namespace) and values together: what an ext4 inode can hold.
pub const MAX_TOTAL_BYTES: usize = 4096;

/// Why metadata was refused; the client's mistake (HTTP 400).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetadataError {
    /// A key longer than [`MAX_KEY_BYTES`].
    #[error("metadata key of {0} bytes is too long, the limit is {MAX_KEY_BYTES}")]
    KeyTooLong(usize),
    /// All pairs together are larger than [`MAX_TOTAL_BYTES`].
    #[error("metadata takes {0} bytes, the limit for one file is {MAX_TOTAL_BYTES}")]
    TooLarge(usize),
    /// A key or value that is not printable US-ASCII.
    #[error("metadata '{0}' must be printable US-ASCII")]
    NotPrintable(String),
}

/// Checks pairs taken from `X-Metadata-*` headers before anything is written.
///
/// # Errors
/// [`MetadataError`] naming the broken limit.
pub fn validate(pairs: &BTreeMap<String, String>) -> Result<(), MetadataError> {
    let printable = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let mut total = 0;
    for (key, value) in pairs {
        if !printable(key) || !printable(value) {
            return Err(MetadataError::NotPrintable(key.escape_default().to_string()));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(MetadataError::KeyTooLong(key.len()));
        }
        total += PREFIX.len() + key.len() + value.len();
    }
    if total > MAX_TOTAL_BYTES {
        return Err(MetadataError::TooLarge(total));
    }
    Ok(())
}

/// The metadata of the file at `path`, links followed.
///
/// # Errors
/// The errno of a failed attribute call.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, Errno> {
    let names = names(path)?;
    if names.is_empty() {
        return metadata_memory::read(path);
    }
    let mut pairs = BTreeMap::new();
    for attribute in names {
        // 64 KiB is the kernel's limit for one value, so this never needs a second try.
        let mut value = vec![0_u8; 64 * 1024];
        match getxattr(path, attribute.as_str(), &mut value) {
            Ok(length) => {
                value.truncate(length);
                let key = attribute[PREFIX.len()..].to_owned();
                pairs.insert(key, String::from_utf8_lossy(&value).into_owned());
            }
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(pairs)
}

/// Replaces the metadata of the file at `path` by `pairs`; attributes outside our namespace stay.
/// On a file system without extended attributes the agent's memory keeps them instead.
///
/// # Errors
/// The errno of a failed call: `ENOSPC` when the file system or the memory has no room for them.
pub fn replace(path: &Path, pairs: &BTreeMap<String, String>) -> Result<(), Errno> {
    for attribute in names(path)? {
        if pairs.contains_key(&attribute[PREFIX.len()..]) {
            continue;
        }
        match removexattr(path, attribute.as_str()) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    for (key, value) in pairs {
        let name = format!("{PREFIX}{key}");
        match setxattr(path, name, value.as_bytes(), XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return metadata_memory::replace(path, pairs),
            Err(errno) => return Err(errno),
        }
    }
    if pairs.is_empty() {
        metadata_memory::replace(path, pairs)?;
    }
    Ok(())
}

fn names(path: &Path) -> Result<Vec<String>, Errno> {
    let mut buffer = vec![0_u8; 1024];
    let length = loop {
        match listxattr(path, &mut buffer) {
            Ok(length) => break length,
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 8, 0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => break 0,
            Err(errno) => return Err(errno),
        }
    };
    buffer.truncate(length);
    Ok(buffer
        .split(|&byte| byte == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| name.starts_with(PREFIX) && name.len() > PREFIX.len())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn limits() {
        let long_key = "k".repeat(247);
        let long_value = "v".repeat(4096);
        assert_eq!(validate(&pairs(&[("a", "b"), ("c", "")])), Ok(()));
        assert_eq!(
            validate(&pairs(&[(&long_key, "")])),
            Err(MetadataError::KeyTooLong(247))
        );
        assert_eq!(
            validate(&pairs(&[("a", &long_value)])),
            Err(MetadataError::TooLarge(4106))
        );
        assert_eq!(
            validate(&pairs(&[("a", "\u{e9}")])),
            Err(MetadataError::NotPrintable("a".into()))
        );
    }

    #[test]
    fn replacing_keeps_foreign_attributes_and_drops_stale_keys() {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = file.path();
        setxattr(path, "user.other", b"kept", XattrFlags::empty()).unwrap();
        replace(path, &pairs(&[("author", "a"), ("purpose", "p")])).unwrap();
        replace(path, &pairs(&[("author", "b"), ("empty", "")])).unwrap();
        assert_eq!(read(path).unwrap(), pairs(&[("author", "b"), ("empty", "")]));
        replace(path, &BTreeMap::new()).unwrap();
        assert_eq!(read(path).unwrap(), BTreeMap::new());
        let mut kept = [0_u8; 8];
        assert_eq!(getxattr(path, "user.other", &mut kept), Ok(4));
    }
}
