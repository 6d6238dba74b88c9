//! Conditional requests: entity tags and modification dates (RFC 9110, section 13).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// What identifies one state of a file to HTTP caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, quotes included. Strong: made of inode, size and modification time in nanoseconds.
    pub etag: String,
    /// `Last-Modified`; absent for a time before 1970.
    pub last_modified: Option<SystemTime>,
}

impl Validators {
    /// The validators of the file `found` describes.
    pub fn of(found: &Metadata) -> Self {
        let modified_s = u64::try_from(found.mtime()).ok();
        Self {
            etag: format!(
                "\"{:x}-{:x}-{:x}.{:x}\"",
                found.ino(),
                found.size(),
                found.mtime(),
                found.mtime_nsec()
            ),
            last_modified: modified_s.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    /// Whether the client's copy is still good (304): `If-None-Match` decides alone when present,
    /// `If-Modified-Since` otherwise.
    pub fn not_modified(&self, if_none_match: Option<&str>, if_modified_since: Option<&str>) -> bool {
        if let Some(list) = if_none_match {
            return list.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.trim_start_matches("W/") == self.etag
            });
        }
        match (if_modified_since.and_then(date), self.last_modified) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }

    /// Whether a `Range` may be honoured: without `If-Range`, or when it names this very state.
    pub fn range_allowed(&self, if_range: Option<&str>) -> bool {
        match if_range.map(str::trim) {
            None => true,
            Some(tag) if tag.starts_with('"') => tag == self.etag,
            Some(text) => date(text).is_some() && date(text) == self.last_modified,
        }
    }
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validators() -> Validators {
        Validators {
            etag: "\"abc\"".into(),
            last_modified: date("Sun, 06 Nov 1994 08:49:37 GMT"),
        }
    }

    #[test]
    fn not_modified() {
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        let exact = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (tags, since, want) in [
            (None, None, false),
            (None, Some(exact), true),
            (None, Some(before), false),
            (None, Some("yesterday"), false),
            (Some("\"abc\""), None, true),
            (Some("W/\"abc\""), None, true),
            (Some("\"x\", \"abc\""), None, true),
            (Some("*"), None, true),
            (Some("\"x\""), Some(exact), false),
        ] {
            assert_eq!(validators().not_modified(tags, since), want, "{tags:?} {since:?}");
        }
    }

    #[test]
    fn ranges() {
        for (header, want) in [
            (None, true),
            (Some("\"abc\""), true),
            (Some("\"other\""), false),
            (Some("W/\"abc\""), false),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), true),
            (Some("Sun, 06 Nov 1994 08:49:38 GMT"), false),
        ] {
            assert_eq!(validators().range_allowed(header), want, "{header:?}");
        }
    }

    #[test]
    fn a_rewrite_changes_the_tag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"1").unwrap();
        let first = Validators::of(&std::fs::metadata(&file).unwrap());
        assert_eq!(first, Validators::of(&std::fs::metadata(&file).unwrap()));
        std::fs::write(&file, b"22").unwrap();
        assert_ne!(first.etag, Validators::of(&std::fs::metadata(&file).unwrap()).etag);
    }
}
