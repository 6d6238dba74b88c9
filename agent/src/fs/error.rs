//! Errors of file-system operations and the wire code each one becomes.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::path::PathError;

/// Why a file-system operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The path text cannot name a file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// MakeDir on a directory that is there.
    #[error("directory already exists: {}", .0.display())]
    DirectoryExists(PathBuf),
    /// Something that is not a directory stands where one is needed.
    #[error("path already exists but it is not a directory: {}", .0.display())]
    InTheWay(PathBuf),
    /// A directory operation on something else.
    #[error("path is not a directory: {}", .0.display())]
    NotADirectory(PathBuf),
    /// An operation that would take away the root directory or a directory's own ancestor.
    #[error("{0}")]
    Refused(String),
    /// A system call failed; its errno decides the wire code.
    #[error("{action} {}: {}", .path.display(), reason(.source))]
    Io {
        /// What was attempted, as "error reading directory".
        action: &'static str,
        /// Path it was attempted on.
        path: PathBuf,
        /// The failed call's error.
        source: io::Error,
    },
    /// A watcher id nobody holds: never issued, removed, or expired.
    #[error("watcher with id {0} not found")]
    NoSuchWatcher(String),
    /// Watching a network mount without asking for it.
    #[error("cannot watch path on network filesystem: {} (set allowNetworkMounts to try anyway)", .0.display())]
    NetworkMount(PathBuf),
    /// Events were lost; whoever relied on the watcher must look at the directory again.
    #[error("{0}")]
    EventsLost(&'static str),
    /// A limit was reached; the text says which and what to do.
    #[error("{0}")]
    LimitReached(String),
}

/// Connect codes used by this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `not_found`
    NotFound,
    /// `invalid_argument`
    InvalidArgument,
    /// `already_exists`
    AlreadyExists,
    /// `failed_precondition`
    FailedPrecondition,
    /// `permission_denied`
    PermissionDenied,
    /// `resource_exhausted`
    ResourceExhausted,
    /// `data_loss`
    DataLoss,
    /// `internal`
    Internal,
}

impl FsError {
    /// Wraps a failed call; `action` reads as the start of a sentence.
    pub fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source: source.into(),
        }
    }

    /// The wire code of this error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::DirectoryExists(_) => Kind::AlreadyExists,
            Self::Path(_) | Self::InTheWay(_) | Self::NotADirectory(_) | Self::Refused(_) | Self::NetworkMount(_) => {
                Kind::InvalidArgument
            }
            Self::NoSuchWatcher(_) => Kind::NotFound,
            Self::EventsLost(_) => Kind::DataLoss,
            Self::LimitReached(_) => Kind::ResourceExhausted,
            Self::Io { source, .. } => kind_of(source),
        }
    }

    /// Whether the file system had no room left (HTTP 507 where one is spoken).
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if no_space(source))
    }
}

/// Whether `error` says that the file system or the owner's quota is full.
pub fn no_space(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// `ENOTDIR` counts as not found: a path below a file names nothing, and callers that only ask
/// whether it exists must get "no" instead of a fault.
pub fn kind_of(error: &io::Error) -> Kind {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Kind::NotFound,
        Some(Errno::EXIST | Errno::NOTEMPTY) => Kind::AlreadyExists,
        Some(Errno::LOOP | Errno::ROFS | Errno::BUSY | Errno::TXTBSY) => Kind::FailedPrecondition,
        Some(Errno::ACCESS | Errno::PERM) => Kind::PermissionDenied,
        Some(Errno::NAMETOOLONG | Errno::INVAL | Errno::ISDIR) => Kind::InvalidArgument,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Kind::ResourceExhausted,
        _ => Kind::Internal,
    }
}

/// The error's own words without the "(os error N)" tail that only a programmer can read.
fn reason(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => "cyclic symlink or too many links".to_owned(),
        Some(Errno::NOSPC | Errno::DQUOT) => "not enough disk space available".to_owned(),
        _ => {
            let text = error.to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            text[..end].to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_to_kind() {
        for (errno, want) in [
            (Errno::NOENT, Kind::NotFound),
            (Errno::NOTDIR, Kind::NotFound),
            (Errno::EXIST, Kind::AlreadyExists),
            (Errno::LOOP, Kind::FailedPrecondition),
            (Errno::ACCESS, Kind::PermissionDenied),
            (Errno::NOSPC, Kind::ResourceExhausted),
            (Errno::IO, Kind::Internal),
        ] {
            let error = FsError::io("error reading", Path::new("/x"), errno);
            assert_eq!(error.kind(), want, "{error}");
        }
    }

    #[test]
    fn texts_say_what_where_and_why() {
        let error = FsError::io("error reading", Path::new("/x"), Errno::ACCESS);
        assert_eq!(error.to_string(), "error reading /x: permission denied");
        let error = FsError::io("error writing", Path::new("/x"), Errno::NOSPC);
        assert!(error.is_no_space());
        assert_eq!(error.to_string(), "error writing /x: not enough disk space available");
    }
}
