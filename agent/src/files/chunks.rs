//! The body of a download: a file read ahead of the network, one chunk at a time.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzEncoder;
use http_body::{Body, Frame, SizeHint};
use rustix::buffer::spare_capacity;
use tokio::task::JoinHandle;

use super::release::after_transfer;

/// Bytes read at once. While the network takes one chunk the next is read, so a download holds
/// about two.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Where a download's bytes come from.
#[derive(Debug)]
pub enum Source {
    /// The file itself, from its current position.
    Plain(File),
    /// The file, compressed on the way.
    Gzip(Box<GzEncoder<File>>),
}

impl Source {
    /// Compresses `file` as it is read: fast rather than small, the network is near.
    pub fn gzip(file: File) -> Self {
        Self::Gzip(Box::new(GzEncoder::new(file, Compression::fast())))
    }

    /// Reads up to `limit` bytes; fewer only at the end of the data.
    fn read(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(file) => {
                let mut chunk = Vec::with_capacity(limit);
                while chunk.len() < limit {
                    match rustix::io::read(&*file, spare_capacity(&mut chunk)) {
                        Ok(0) => break,
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Ok(chunk)
            }
            Self::Gzip(encoder) => {
                let mut chunk = Vec::with_capacity(limit);
                encoder
                    .by_ref()
                    .take(u64::try_from(limit).unwrap_or(u64::MAX))
                    .read_to_end(&mut chunk)?;
                Ok(chunk)
            }
        }
    }
}

type Reading = JoinHandle<(Source, io::Result<Vec<u8>>)>;

/// A response body made of a file's bytes.
///
/// Each chunk is read by its own short job on the blocking pool, so a client that stalls holds
/// memory but no thread. A file that turns out shorter than announced ends the body with an error:
/// the connection breaks instead of passing off half a file as whole.
#[derive(Debug)]
pub struct FileBody {
    /// Bytes sent before those of the source.
    head: Bytes,
    source: Option<Source>,
    reading: Option<Reading>,
    /// Bytes the source still owes; `None` when its length is unknown.
    remaining: Option<u64>,
    /// Bytes of the source delivered.
    sent: u64,
}

impl FileBody {
    /// A body that is wholly in memory.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self {
            head: bytes.into(),
            source: None,
            reading: None,
            remaining: Some(0),
            sent: 0,
        }
    }

    /// `head`, then `length` bytes of `source`, or all of it when `length` is `None`.
    pub fn stream(head: impl Into<Bytes>, source: Source, length: Option<u64>) -> Self {
        Self {
            head: head.into(),
            source: Some(source),
            reading: None,
            remaining: length,
            sent: 0,
        }
    }

    fn read_on(&mut self) {
        let limit = match self.remaining {
            Some(0) => return,
            Some(left) => usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES)),
            None => CHUNK_BYTES,
        };
        if let Some(mut source) = self.source.take() {
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let chunk = source.read(limit);
                (source, chunk)
            }));
        }
    }

    fn finish(&mut self) {
        self.source = None;
        self.remaining = Some(0);
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        after_transfer(self.sent);
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.reading.is_none() {
            self.read_on();
        }
        if !self.head.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.head)))));
        }
        let Some(reading) = self.reading.as_mut() else {
            return Poll::Ready(None);
        };
        let joined = std::task::ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let (source, chunk) = match joined {
            Ok((source, Ok(chunk))) => (source, chunk),
            Ok((_, Err(error))) => {
                self.finish();
                return Poll::Ready(Some(Err(error)));
            }
            Err(panicked) => {
                self.finish();
                return Poll::Ready(Some(Err(io::Error::other(panicked))));
            }
        };
        if chunk.is_empty() {
            let short = self.remaining.is_some();
            self.finish();
            return Poll::Ready(short.then(|| {
                Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was sent",
                ))
            }));
        }
        self.source = Some(source);
        self.sent += chunk.len() as u64;
        if let Some(left) = self.remaining.as_mut() {
            *left -= chunk.len() as u64;
        }
        self.read_on();
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.reading.is_none() && self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        let head = self.head.len() as u64;
        match self.remaining {
            // A chunk being read is counted in `remaining` until it is delivered.
            Some(left) => SizeHint::with_exact(head + left),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::{Seek, SeekFrom, Write};

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    async fn all(body: FileBody) -> io::Result<Vec<u8>> {
        Ok(body.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn lengths_around_the_chunk_size() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let want = pattern(length);
            let body = FileBody::stream("", Source::Plain(file(&want)), Some(length as u64));
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            assert_eq!(all(body).await.unwrap(), want, "known {length}");
            let body = FileBody::stream("", Source::Plain(file(&want)), None);
            assert_eq!(all(body).await.unwrap(), want, "unknown {length}");
        }
    }

    #[tokio::test]
    async fn a_head_comes_first_and_the_length_cuts() {
        let body = FileBody::stream("head", Source::Plain(file(b"content")), Some(3));
        assert_eq!(body.size_hint().exact(), Some(7));
        assert_eq!(all(body).await.unwrap(), b"headcon");
        assert_eq!(all(FileBody::whole("abc")).await.unwrap(), b"abc");
        assert!(FileBody::whole("").is_end_stream());
    }

    #[tokio::test]
    async fn a_shrunken_file_breaks_the_body() {
        let body = FileBody::stream("", Source::Plain(file(b"abc")), Some(4));
        let error = all(body).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn gzip_decodes_to_the_file() {
        let want = pattern(CHUNK_BYTES * 2 + 17);
        let coded = all(FileBody::stream("", Source::gzip(file(&want)), None))
            .await
            .unwrap();
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&coded[..])
            .read_to_end(&mut decoded)
            .unwrap();
        assert!(decoded == want && coded.len() < want.len());
    }
}
