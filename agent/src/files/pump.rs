//! From a stream of body chunks into a file, overlapping network and disk.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::task::{JoinError, JoinHandle};

use super::error::FileError;
use super::release::after_transfer;
use super::sink::Sink;

/// Bytes collected while the batch before is being written; with that batch an upload holds about
/// twice as much, however large the file.
const BATCH_BYTES: usize = 256 * 1024;

type Writing = JoinHandle<Result<Sink, FileError>>;

/// Writes `body` to `sink` to its end, finishes it, and returns the number of body bytes.
///
/// Each batch is its own short job on the blocking pool, so a slow client holds memory but no
/// thread. Dropping the future (the client left) ends the upload after the batch in flight.
///
/// # Errors
/// The body's or the sink's first [`FileError`]; nothing more of the body is read then.
pub async fn pump<S>(body: &mut S, sink: Sink) -> Result<u64, FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let mut idle = Some(sink);
    let mut writing: Option<Writing> = None;
    let mut batch: Vec<Bytes> = Vec::new();
    let mut batched = 0;
    let mut total = 0;
    let mut ended = false;
    loop {
        if writing.is_none()
            && (batched > 0 || ended)
            && let Some(sink) = idle.take()
        {
            let parts = std::mem::take(&mut batch);
            batched = 0;
            if ended {
                finish(sink, parts).await?;
                after_transfer(total);
                return Ok(total);
            }
            writing = Some(start(sink, parts));
        }
        tokio::select! {
            biased;
            joined = join(&mut writing), if writing.is_some() => {
                writing = None;
                idle = Some(joined.map_err(|panicked| broken(&panicked))??);
            }
            chunk = body.next(), if !ended && batched < BATCH_BYTES => match chunk {
                Some(chunk) => {
                    let chunk = chunk?;
                    batched += chunk.len();
                    total += chunk.len() as u64;
                    if !chunk.is_empty() {
                        batch.push(chunk);
                    }
                }
                None => ended = true,
            },
        }
    }
}

fn start(mut sink: Sink, parts: Vec<Bytes>) -> Writing {
    tokio::task::spawn_blocking(move || {
        sink.write(&parts)?;
        Ok(sink)
    })
}

async fn finish(mut sink: Sink, parts: Vec<Bytes>) -> Result<(), FileError> {
    let job = move || {
        sink.write(&parts)?;
        sink.finish()
    };
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|panicked| broken(&panicked))?
}

async fn join(writing: &mut Option<Writing>) -> Result<Result<Sink, FileError>, JoinError> {
    match writing {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}

fn broken(panicked: &JoinError) -> FileError {
    FileError::io(
        "error writing file",
        std::path::Path::new(""),
        std::io::Error::other(panicked.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::encoding::Coding;
    use crate::fs::ownership::Ownership;
    use futures_util::stream;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn sink(path: &Path) -> Sink {
        Sink::open(path, Ownership::own(), Coding::Identity, &BTreeMap::new()).unwrap()
    }

    #[tokio::test]
    async fn bodies_of_all_sizes_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (chunks, size) in [(0, 0), (1, 0), (1, 1), (1000, 7), (9, BATCH_BYTES), (40, 70_000)] {
            let want: Vec<u8> = (0..chunks * size).map(|at| (at % 251) as u8).collect();
            let parts: Vec<Bytes> = if size == 0 {
                vec![Bytes::new(); chunks]
            } else {
                want.chunks(size).map(Bytes::copy_from_slice).collect()
            };
            let mut body = stream::iter(parts.into_iter().map(Ok));
            let total = pump(&mut body, sink(&path)).await.unwrap();
            assert_eq!(total, want.len() as u64);
            assert!(std::fs::read(&path).unwrap() == want, "{chunks} of {size}");
        }
    }

    #[tokio::test]
    async fn a_body_cut_off_keeps_what_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let parts = [
            Ok(Bytes::from_static(b"first")),
            Err(FileError::BodyCutOff("gone".into())),
            Ok(Bytes::from_static(b"never")),
        ];
        let error = pump(&mut stream::iter(parts), sink(&path)).await.unwrap_err();
        assert!(matches!(error, FileError::BodyCutOff(_)));
        // The batch in flight may still be on its way to the disk, but nothing follows it.
        assert!(b"first".starts_with(&std::fs::read(&path).unwrap()));
    }
}
