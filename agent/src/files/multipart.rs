//! A streaming reader of `multipart/form-data` bodies (RFC 7578).
//!
//! Content passes through without being copied; what is buffered is bounded by
//! [`MAX_HEAD_BYTES`] and the size of one body chunk, whatever the client sends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use memchr::memmem::Finder;

use super::disposition::{PartHead, part_head};
use super::error::FileError;

/// Most bytes of one part's header lines together, line ends included.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest boundary RFC 2046 allows, in bytes.
const MAX_BOUNDARY_BYTES: usize = 70;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a part's content, or the text before the first part.
    Content,
    /// Just after a delimiter.
    Delimiter,
    /// After the closing delimiter.
    End,
}

/// Reads the parts of `body` one after the other.
#[derive(Debug)]
pub struct Multipart<S> {
    body: S,
    buffer: Bytes,
    body_ended: bool,
    delimiter: Finder<'static>,
    state: State,
}

impl<S> Multipart<S>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    /// Args:
    /// * `boundary`: the `boundary` parameter of the request's `Content-Type`.
    ///
    /// # Errors
    /// [`FileError::BadRequest`] for a boundary that is empty or too long.
    pub fn new(body: S, boundary: &str) -> Result<Self, FileError> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
            return Err(malformed("its boundary must have 1 to 70 characters"));
        }
        Ok(Self {
            body,
            // The first delimiter needs no line end before it; with one it is like all others.
            buffer: Bytes::from_static(b"\r\n"),
            body_ended: false,
            delimiter: Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            state: State::Content,
        })
    }

    /// Goes to the next part, past what is left of the one before; `None` after the last.
    ///
    /// # Errors
    /// [`FileError`]: a malformed or cut off body.
    pub async fn next_part(&mut self) -> Result<Option<PartHead>, FileError> {
        while let Some(rest) = self.next().await {
            rest?;
        }
        std::future::poll_fn(|context| self.poll_head(context)).await
    }

    /// The body, for what comes after an error.
    pub fn into_body(self) -> S {
        self.body
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<PartHead>, FileError>> {
        if self.state == State::End {
            return Poll::Ready(Ok(None));
        }
        loop {
            if self.buffer.starts_with(b"--") {
                self.state = State::End;
                return Poll::Ready(Ok(None));
            }
            if let Some(length) = head_length(&self.buffer) {
                let head = self.buffer.split_to(length);
                self.state = State::Content;
                return Poll::Ready(part_head(&head).map(Some));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Poll::Ready(Err(malformed("the headers of a part are too long")));
            }
            if !ready!(self.poll_more(context))? {
                return Poll::Ready(Err(cut_off()));
            }
        }
    }

    /// Appends the next body chunk to the buffer; false at the body's end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, FileError>> {
        if self.body_ended {
            return Poll::Ready(Ok(false));
        }
        let Some(chunk) = ready!(self.body.poll_next_unpin(context)).transpose()? else {
            self.body_ended = true;
            return Poll::Ready(Ok(false));
        };
        self.buffer = if self.buffer.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len() + chunk.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        Poll::Ready(Ok(true))
    }

    /// How many bytes at the buffer's end may be the start of a delimiter.
    fn possible_delimiter(&self) -> usize {
        let delimiter = self.delimiter.needle();
        let longest = self.buffer.len().min(delimiter.len() - 1);
        (1..=longest)
            .rev()
            .find(|&length| self.buffer.ends_with(&delimiter[..length]))
            .unwrap_or(0)
    }
}

/// The rest of the current part's content.
impl<S> Stream for Multipart<S>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    type Item = Result<Bytes, FileError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.state != State::Content {
            return Poll::Ready(None);
        }
        loop {
            if let Some(at) = this.delimiter.find(&this.buffer) {
                let piece = this.buffer.split_to(at);
                this.buffer.advance(this.delimiter.needle().len());
                this.state = State::Delimiter;
                return Poll::Ready((!piece.is_empty()).then_some(Ok(piece)));
            }
            let sure = this.buffer.len() - this.possible_delimiter();
            if sure > 0 {
                return Poll::Ready(Some(Ok(this.buffer.split_to(sure))));
            }
            match ready!(this.poll_more(context)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Some(Err(cut_off()))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// Length of the rest of a delimiter's line, the header lines and the empty line after them; `None`
/// when the buffer does not hold all of it.
fn head_length(buffer: &[u8]) -> Option<usize> {
    let first_line = memchr::memmem::find(buffer, b"\r\n")?;
    if buffer[first_line..].starts_with(b"\r\n\r\n") {
        return Some(first_line + 4);
    }
    memchr::memmem::find(buffer, b"\r\n\r\n").map(|at| at + 4)
}

fn malformed(what: &str) -> FileError {
    FileError::BadRequest(format!("malformed multipart form: {what}"))
}

fn cut_off() -> FileError {
    FileError::BodyCutOff("the multipart form ends before its closing boundary".to_owned())
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
