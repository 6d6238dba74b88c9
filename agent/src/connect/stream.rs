//! Server-stream calls: a message in, a stream of messages out.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, Sleep, sleep_until};

use super::codec::{self, Codec, Message};
use super::error::unsupported_media_type;
use super::{Code, Context, Error, Messages, envelope, keepalive};
use crate::http::{self, Request, Response};

/// An item of a server stream.
pub trait StreamItem: Message {
    /// The item sent when nothing else was for the interval the client asked for.
    fn keepalive() -> Self;
}

/// What a server-stream handler returns: the items, and headers to answer with.
pub struct Streaming<S> {
    /// Items; an error is the last one. Dropped when the client is gone.
    pub items: S,
    /// Extra response headers.
    pub headers: HeaderMap,
}

impl<S> Streaming<S> {
    /// A stream with no extra headers.
    pub fn new(items: S) -> Self {
        Self {
            items,
            headers: HeaderMap::new(),
        }
    }
}

/// Runs one server-stream call.
///
/// The answer's status is 200 even for errors, which stand in the end frame. The stream ends with
/// `deadline_exceeded` when `Connect-Timeout-Ms` elapses. Keepalive items are sent each time
/// `Keepalive-Ping-Interval` seconds, or half of `Connect-Timeout-Ms` where that is less, pass without another item.
pub async fn server_stream<Req, Item, S, F, Fut>(request: Request, handler: F) -> Response
where
    Req: Message,
    Item: StreamItem,
    S: Stream<Item = Result<Item, Error>> + Send + 'static,
    F: FnOnce(Context, Req) -> Fut,
    Fut: Future<Output = Result<Streaming<S>, Error>>,
{
    if request.method() != Method::POST {
        return http::error(StatusCode::METHOD_NOT_ALLOWED, "a call must be a POST");
    }
    let Some(codec) = Codec::of_stream(request.headers()) else {
        return unsupported_media_type(codec::STREAM_TYPES);
    };
    let (head, body) = request.into_parts();
    let began = Instant::now();
    let asked = keepalive(&head.headers);
    let outcome = async {
        let context = Context::new(head.headers, codec)?;
        let deadline = context.timeout.map(|timeout| began + timeout);
        let mut messages = Messages::new(body, codec);
        let message = messages
            .next()
            .await?
            .ok_or_else(|| Error::invalid("the request has no message"))?;
        messages.finish();
        let interval = asked.map(|asked| interval(asked, context.timeout));
        Ok((handler(context, message).await?, deadline, interval))
    }
    .await;
    let mut response = match outcome {
        Ok((streaming, deadline, interval)) => {
            let body = ItemBody {
                items: Some(Box::pin(streaming.items)),
                codec,
                deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
                keepalive: interval.map(Keepalive::new),
            };
            let mut response = hyper::Response::new(body.boxed_unsync());
            *response.headers_mut() = streaming.headers;
            response
        }
        Err(error) => {
            let end = http_body_util::Full::new(envelope::end_frame(Some(&error)));
            hyper::Response::new(end.map_err(|never: Infallible| match never {}).boxed_unsync())
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, codec.stream_type());
    response
}

/// E2B's Python client gives up when nothing came for as long as the call may take. That is a moment after the
/// deadline, and before the end frame of it where the machine is busy: the caller saw a lost connection and not
/// the deadline. An item halfway leaves the end frame half of the time to arrive.
fn interval(asked: Duration, timeout: Option<Duration>) -> Duration {
    timeout.map_or(asked, |timeout| asked.min(timeout / 2))
}

struct Keepalive {
    interval: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Keepalive {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            sleep: Box::pin(sleep_until(Instant::now() + interval)),
        }
    }

    fn restart(&mut self) {
        self.sleep.as_mut().reset(Instant::now() + self.interval);
    }
}

struct ItemBody<S> {
    /// None once the end frame is out.
    items: Option<Pin<Box<S>>>,
    codec: Codec,
    deadline: Option<Pin<Box<Sleep>>>,
    keepalive: Option<Keepalive>,
}

impl<S> ItemBody<S> {
    fn end(&mut self, error: Option<&Error>) -> Bytes {
        self.items = None;
        self.deadline = None;
        self.keepalive = None;
        envelope::end_frame(error)
    }
}

impl<Item, S> http_body::Body for ItemBody<S>
where
    Item: StreamItem,
    S: Stream<Item = Result<Item, Error>> + Send + 'static,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(items) = this.items.as_mut() else {
            return Poll::Ready(None);
        };
        let late = this
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(task).is_ready());
        let next = if late {
            Some(Err(Error::new(
                Code::DeadlineExceeded,
                "the time of Connect-Timeout-Ms has elapsed",
            )))
        } else {
            match items.as_mut().poll_next(task) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let Some(keepalive) = this.keepalive.as_mut() else {
                        return Poll::Pending;
                    };
                    ready!(keepalive.sleep.as_mut().poll(task));
                    Some(Ok(Item::keepalive()))
                }
            }
        };
        let frame = match next {
            None => this.end(None),
            Some(Err(error)) => this.end(Some(&error)),
            Some(Ok(item)) => {
                if let Some(keepalive) = this.keepalive.as_mut() {
                    keepalive.restart();
                }
                let mut out = BytesMut::new();
                let codec = this.codec;
                match envelope::put(&mut out, 0, |out| codec.encode(&item, out)) {
                    Ok(()) => out.freeze(),
                    Err(error) => this.end(Some(&error)),
                }
            }
        };
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }
}
