//! Request bodies as streams of chunks.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Body;

use super::error::FileError;

/// How long a failed upload goes on taking its body before it answers anyway.
const DRAIN: Duration = Duration::from_secs(30);
/// Compressed bytes decoded at once; at gzip's best they become about 1 MiB.
const SLICE_BYTES: usize = 1024;

/// The body's chunks. One that breaks off is an error, as is a stalled connection that ends.
pub fn chunks<B>(body: B) -> impl Stream<Item = Result<Bytes, FileError>> + Unpin
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    BodyDataStream::new(body).map(|chunk| chunk.map_err(|error| FileError::BodyCutOff(error.to_string())))
}

/// Takes and forgets up to `most_bytes` of the rest of `body`, so that a client still sending gets to
/// read the answer instead of a reset connection. Gives up after 30 s or at the first error.
pub async fn drain<S>(body: &mut S, mut most_bytes: u64)
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let rest = async {
        while let Some(Ok(chunk)) = body.next().await {
            most_bytes = most_bytes.saturating_sub(chunk.len() as u64);
            if most_bytes == 0 {
                return;
            }
        }
    };
    // Whether the time ran out or not, the answer comes next.
    let _elapsed = tokio::time::timeout(DRAIN, rest).await;
}

/// The gzip-decoded form of `body`, in pieces of at most about 1 MiB however well it was packed.
pub fn decoded<S>(body: S) -> impl Stream<Item = Result<Bytes, FileError>> + Unpin
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let start = Some((body, MultiGzDecoder::new(Vec::new()), Bytes::new()));
    Box::pin(stream::unfold(start, async |state| {
        let (mut body, mut decoder, mut packed) = state?;
        loop {
            if packed.is_empty() {
                packed = match body.next().await {
                    Some(Ok(chunk)) => chunk,
                    Some(Err(error)) => return Some((Err(error), None)),
                    None => {
                        let end = decoder.try_finish().map_err(broken);
                        let rest = end.map(|()| std::mem::take(decoder.get_mut()).into());
                        return Some((rest, None));
                    }
                };
            }
            let slice = packed.split_to(packed.len().min(SLICE_BYTES));
            if let Err(error) = decoder.write_all(&slice) {
                return Some((Err(broken(error)), None));
            }
            let unpacked = std::mem::take(decoder.get_mut());
            if !unpacked.is_empty() {
                return Some((Ok(unpacked.into()), Some((body, decoder, packed))));
            }
        }
    }))
}

fn broken(error: std::io::Error) -> FileError {
    FileError::BadRequest(format!("error decompressing request body: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    async fn decode(packed: &[u8], step: usize) -> Result<Vec<u8>, FileError> {
        let chunks = packed.chunks(step).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        let mut pieces = decoded(stream::iter(chunks));
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            assert!(piece.len() <= 2 * 1024 * 1024, "a piece of {} bytes", piece.len());
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(data, flate2::Compression::best());
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    #[tokio::test]
    async fn gzip_in_any_cut() {
        let want: Vec<u8> = (0..30_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&want);
        for step in [1, 7, 1024, packed.len()] {
            assert!(decode(&packed, step).await.unwrap() == want, "{step}");
        }
        let bomb = vec![0; 8 * 1024 * 1024];
        assert_eq!(decode(&gzip(&bomb), 1 << 20).await.unwrap().len(), bomb.len());
    }

    #[tokio::test]
    async fn what_is_not_whole_gzip_is_refused() {
        let packed = gzip(b"some content");
        for body in [&packed[..packed.len() - 1], &packed[..12], b"plain text", b""] {
            assert_eq!(decode(body, 5).await.unwrap_err().status(), 400, "{body:?}");
        }
    }
}
