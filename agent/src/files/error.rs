//! Errors of the `/files` endpoints and the HTTP status each one becomes.

use std::io;
use std::path::{Path, PathBuf};

use hyper::StatusCode;

use super::encoding::CodingError;
use super::signature::SignatureError;
use crate::fs::error::{FsError, Kind, kind_of, no_space};
use crate::fs::metadata::MetadataError;
use crate::fs::path::PathError;

/// Why a request on `/files` failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Neither a valid token nor a valid signature.
    #[error(transparent)]
    Unauthorized(#[from] SignatureError),
    /// No such user in the sandbox.
    #[error("{0}")]
    UnknownUser(String),
    /// A path that names nothing.
    #[error("error resolving path: {0}")]
    Path(#[from] PathError),
    /// The file to read is not there.
    #[error("path '{}' does not exist", .0.display())]
    Missing(PathBuf),
    /// A directory where a file is needed.
    #[error("path '{}' is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// A FIFO, socket or device: reading one may never end.
    #[error("path '{}' is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Metadata headers over their limits.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// An `Accept-Encoding` or `Content-Encoding` the agent cannot serve.
    #[error(transparent)]
    Coding(#[from] CodingError),
    /// Anything else wrong with the request; the text says what.
    #[error("{0}")]
    BadRequest(String),
    /// The request's body ended before it was whole; nobody may be left to read this.
    #[error("error reading the request's body: {0}")]
    BodyCutOff(String),
    /// The file system or quota is full. What was written until then stays.
    #[error("{}not enough disk space available", attempted(.0))]
    NoSpace(Option<u64>),
    /// A file-system operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

fn attempted(length: &Option<u64>) -> String {
    length.map_or_else(String::new, |bytes| format!("attempted to write {bytes} bytes: "))
}

impl FileError {
    /// Wraps a failed call; a full file system is told apart.
    pub fn io(action: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        if no_space(&error) {
            Self::NoSpace(None)
        } else {
            Self::Fs(FsError::io(action, path, error))
        }
    }

    /// As [`Self::io`] for reading: a missing file is the client's news, not a fault.
    pub fn reading(path: &Path, error: io::Error) -> Self {
        if kind_of(&error) == Kind::NotFound {
            Self::Missing(path.to_path_buf())
        } else {
            Self::io("error opening file", path, error)
        }
    }

    /// Adds the announced length to a [`Self::NoSpace`].
    #[must_use]
    pub fn with_length(self, length: Option<u64>) -> Self {
        match self {
            Self::NoSpace(None) => Self::NoSpace(length),
            other => other,
        }
    }

    /// The HTTP status of this error.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::UnknownUser(_) => StatusCode::UNAUTHORIZED,
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Path(_)
            | Self::IsDirectory(_)
            | Self::NotRegular(_)
            | Self::Metadata(_)
            | Self::Coding(CodingError::Unsupported(_))
            | Self::BadRequest(_)
            | Self::BodyCutOff(_) => StatusCode::BAD_REQUEST,
            Self::Coding(CodingError::NotAcceptable) => StatusCode::NOT_ACCEPTABLE,
            Self::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Fs(error) if error.is_no_space() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Fs(error) => match error.kind() {
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::InvalidArgument | Kind::FailedPrecondition => StatusCode::BAD_REQUEST,
                Kind::AlreadyExists => StatusCode::CONFLICT,
                Kind::PermissionDenied => StatusCode::FORBIDDEN,
                Kind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
                Kind::DataLoss | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn statuses() {
        let path = Path::new("/x");
        for (error, want) in [
            (FileError::from(SignatureError::Expired), 401),
            (FileError::UnknownUser(String::new()), 401),
            (FileError::from(PathError::Nul), 400),
            (FileError::reading(path, Errno::NOENT.into()), 404),
            (FileError::reading(path, Errno::NOTDIR.into()), 404),
            (FileError::reading(path, Errno::ACCESS.into()), 403),
            (FileError::IsDirectory(path.into()), 400),
            (FileError::io("writing", path, Errno::NOSPC), 507),
            (FileError::io("writing", path, Errno::DQUOT), 507),
            (FileError::from(FsError::io("creating", path, Errno::NOSPC)), 507),
            (FileError::io("writing", path, Errno::IO), 500),
            (FileError::from(FsError::InTheWay(path.into())), 400),
            (FileError::from(CodingError::NotAcceptable), 406),
        ] {
            assert_eq!(error.status().as_u16(), want, "{error}");
        }
    }

    #[test]
    fn texts_clients_compare() {
        assert_eq!(
            FileError::Missing("/a/b".into()).to_string(),
            "path '/a/b' does not exist"
        );
        assert_eq!(
            FileError::NoSpace(None).with_length(Some(7)).to_string(),
            "attempted to write 7 bytes: not enough disk space available"
        );
    }
}
