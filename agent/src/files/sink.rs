//! The file an upload is written to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::encoding::Coding;
use super::error::FileError;
use crate::fs::error::FsError;
use crate::fs::make_dir::ensure_dirs;
use crate::fs::metadata;
use crate::fs::ownership::Ownership;

/// Mode of created files, before the process's umask.
const MODE: Mode = Mode::from_raw_mode(0o666);

/// A destination being written. Its functions block; run them on the blocking pool.
///
/// Bytes go straight into the destination, so a reader sees the file grow, and what arrived stays
/// when the upload is cut off or the disk is full: the file is then shorter than the upload.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    out: Out,
}

#[derive(Debug)]
enum Out {
    Plain(File),
    Gzip(Box<MultiGzDecoder<File>>),
}

impl Sink {
    /// Opens `path` for writing: makes missing parents, creates or empties the file, gives it to
    /// `owner`, and replaces its metadata by `pairs`.
    ///
    /// # Errors
    /// [`FileError`]: a directory, FIFO or device at `path`, no space, or a failed call.
    pub fn open(
        path: &Path,
        owner: Ownership,
        coding: Coding,
        pairs: &BTreeMap<String, String>,
    ) -> Result<Self, FileError> {
        let file = match open_existing_or_new(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                if let Some(parent) = path.parent() {
                    ensure_dirs(parent, owner)?;
                }
                open_existing_or_new(path)
            }
            other => other,
        }
        .map_err(|errno| refusal(path, errno))?;
        let failed = |error| FileError::io("error preparing file", path, error);
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(FileError::NotRegular(path.to_path_buf()));
        }
        if found.len() > 0 {
            file.set_len(0).map_err(failed)?;
        }
        if (found.uid(), found.gid()) != (owner.uid, owner.gid) {
            owner.give_open(&file).map_err(failed)?;
        }
        metadata::replace(path, pairs).map_err(|errno| FileError::io("error storing the metadata of", path, errno))?;
        Ok(Self {
            path: path.to_path_buf(),
            out: match coding {
                Coding::Identity => Out::Plain(file),
                Coding::Gzip => Out::Gzip(Box::new(MultiGzDecoder::new(file))),
            },
        })
    }

    /// Writes a batch whole.
    ///
    /// # Errors
    /// [`FileError`]: no space, invalid gzip data, or a failed call; part of the batch may be in
    /// the file then.
    pub fn write(&mut self, batch: &[Bytes]) -> Result<(), FileError> {
        let written = match &mut self.out {
            Out::Plain(file) => write_all(file, batch),
            Out::Gzip(decoder) => batch.iter().try_for_each(|part| decoder.write_all(part)),
        };
        written.map_err(|error| self.failure(error))
    }

    /// Ends the upload: everything is in the file when this returns.
    ///
    /// # Errors
    /// [`FileError`]: gzip data that stops short, no space, or a failed call.
    pub fn finish(mut self) -> Result<(), FileError> {
        if let Out::Gzip(decoder) = &mut self.out {
            let finished = decoder.try_finish();
            finished.map_err(|error| self.failure(error))?;
        }
        Ok(())
    }

    fn failure(&self, error: io::Error) -> FileError {
        let from_decoder = Errno::from_io_error(&error).is_none();
        if from_decoder && matches!(self.out, Out::Gzip(_)) {
            FileError::BadRequest(format!("error decompressing request body: {error}"))
        } else {
            FileError::io("error writing file", &self.path, error)
        }
    }
}

/// `O_NONBLOCK` keeps a FIFO without a reader from holding the caller for ever; it means nothing
/// for regular files. The file is emptied only after it proved to be one.
fn open_existing_or_new(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, MODE).map(File::from)
}

fn refusal(path: &Path, errno: Errno) -> FileError {
    match errno {
        Errno::ISDIR => FileError::IsDirectory(path.to_path_buf()),
        Errno::NXIO | Errno::NODEV => FileError::NotRegular(path.to_path_buf()),
        Errno::NOTDIR => FsError::InTheWay(path.parent().unwrap_or(path).to_path_buf()).into(),
        errno => FileError::io("error opening file", path, errno),
    }
}

fn write_all(file: &mut File, batch: &[Bytes]) -> io::Result<()> {
    let mut storage: Vec<IoSlice<'_>> = batch.iter().map(|part| IoSlice::new(part)).collect();
    let mut slices = &mut storage[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn open(path: &Path, coding: Coding) -> Result<Sink, FileError> {
        Sink::open(path, Ownership::own(), coding, &BTreeMap::new())
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        flate2::read::GzEncoder::new(data, flate2::Compression::fast())
            .read_to_end(&mut coded)
            .unwrap();
        coded
    }

    #[test]
    fn parents_appear_and_old_content_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/f");
        for content in ["longer than the next", "short", ""] {
            let mut sink = open(&path, Coding::Identity).unwrap();
            let parts: Vec<Bytes> = content
                .as_bytes()
                .chunks(3)
                .map(Bytes::copy_from_slice)
                .chain([Bytes::new()])
                .collect();
            sink.write(&parts).unwrap();
            sink.finish().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn gzip_bodies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let coded = gzip(b"hello gzip");
        let mut two_members = coded.clone();
        two_members.extend(gzip(b" twice"));
        for (body, want) in [
            (&coded[..], Some("hello gzip")),
            (&two_members[..], Some("hello gzip twice")),
            (&coded[..coded.len() - 9], None),
            (&coded[..coded.len() - 1], None),
            (b"not gzip at all", None),
            (b"", None),
        ] {
            let mut sink = open(&path, Coding::Gzip).unwrap();
            let result = sink.write(&[Bytes::copy_from_slice(body)]).and_then(|()| sink.finish());
            match want {
                Some(text) => {
                    result.unwrap();
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
                }
                None => assert_eq!(result.unwrap_err().status(), 400, "{body:?}"),
            }
        }
    }

    #[test]
    fn refusals() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, MODE, 0).unwrap();
        std::fs::write(dir.path().join("file"), b"kept").unwrap();
        for (path, want) in [
            (dir.path().to_path_buf(), "is a directory"),
            (fifo, "is not a regular file"),
            ("/dev/null".into(), "is not a regular file"),
            (dir.path().join("file/x"), "is not a directory"),
            (dir.path().join("file/x/y"), "is not a directory"),
        ] {
            let error = open(&path, Coding::Identity).unwrap_err();
            assert_eq!(error.status(), 400, "{error}");
            assert!(error.to_string().contains(want), "{error}");
        }
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"kept");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = FileError::io("error writing file", Path::new("/x"), Errno::NOSPC);
        assert_eq!(error.status(), 507);
    }
}
