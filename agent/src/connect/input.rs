//! The message stream of a client, and client-stream calls.

use std::future::Future;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};

use super::codec::{self, Codec, Message};
use super::envelope;
use super::error::unsupported_media_type;
use super::{Code, Context, Error};
use crate::http::{self, Request, Response};

/// The messages a client sends on a stream.
pub struct Messages<M> {
    body: Incoming,
    buffer: BytesMut,
    codec: Codec,
    ended: bool,
    kind: PhantomData<fn() -> M>,
}

impl<M: Message> Messages<M> {
    pub(super) fn new(body: Incoming, codec: Codec) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            codec,
            ended: false,
            kind: PhantomData,
        }
    }

    /// The next message; None after the end frame or the end of the body.
    ///
    /// `invalid_argument` for a malformed or cut-off envelope or message, `resource_exhausted` for
    /// one over 4 MiB, `canceled` when the connection broke.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(envelope) = envelope::take(&mut self.buffer)? {
                if envelope.end {
                    self.ended = true;
                    return Ok(None);
                }
                return self.codec.decode(envelope.message).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(data);
                    }
                }
                Some(Err(error)) => {
                    return Err(Error::new(Code::Canceled, format!("the request stream broke: {error}")));
                }
                None if self.buffer.is_empty() => self.ended = true,
                None => return Err(Error::invalid("the request stream ended inside a message")),
            }
        }
    }

    /// Takes and forgets what is left of the body, in the background.
    ///
    /// Its end may come after the last message that matters. A connection whose request was not read to its end is
    /// closed after the answer, and by then the next request may be under way on it.
    pub(super) fn finish(mut self) {
        if !self.body.is_end_stream() {
            tokio::spawn(async move { while let Some(Ok(_)) = self.body.frame().await {} });
        }
    }

    fn push(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            // A frame usually is a whole envelope: take it over instead of copying it.
            self.buffer = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        } else {
            self.buffer.extend_from_slice(&data);
        }
    }
}

/// Runs one client-stream call: `handler` reads the messages and returns the one answer.
pub async fn client_stream<Req, Res, F, Fut>(request: Request, handler: F) -> Response
where
    Req: Message,
    Res: Message,
    F: FnOnce(Context, Messages<Req>) -> Fut,
    Fut: Future<Output = Result<Res, Error>>,
{
    if request.method() != Method::POST {
        return http::error(StatusCode::METHOD_NOT_ALLOWED, "a call must be a POST");
    }
    let Some(codec) = Codec::of_stream(request.headers()) else {
        return unsupported_media_type(codec::STREAM_TYPES);
    };
    let (head, body) = request.into_parts();
    let outcome = async {
        let context = Context::new(head.headers, codec)?;
        let answer = handler(context, Messages::new(body, codec)).await?;
        let mut out = BytesMut::new();
        envelope::put(&mut out, 0, |out| codec.encode(&answer, out))?;
        Ok::<_, Error>(out)
    }
    .await;
    let mut out = BytesMut::new();
    let end = match outcome {
        Ok(answer) => {
            out = answer;
            envelope::end_frame(None)
        }
        Err(error) => envelope::end_frame(Some(&error)),
    };
    out.extend_from_slice(&end);
    let mut response = hyper::Response::new(http::full(out.freeze()));
    response.headers_mut().insert(CONTENT_TYPE, codec.stream_type());
    response
}
