//! Unary calls.

use std::future::Future;

use bytes::BytesMut;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};

use super::codec::{self, Codec, Message};
use super::error::unsupported_media_type;
use super::{Code, Context, Error};
use crate::http::{self, Request, Response};

/// Runs one unary call: reads the message (at most 4 MiB), calls `handler`, writes its answer.
pub async fn unary<Req, Res, F, Fut>(request: Request, handler: F) -> Response
where
    Req: Message,
    Res: Message,
    F: FnOnce(Context, Req) -> Fut,
    Fut: Future<Output = Result<Res, Error>>,
{
    if request.method() != Method::POST {
        return http::error(StatusCode::METHOD_NOT_ALLOWED, "a call must be a POST");
    }
    let Some(codec) = Codec::of_unary(request.headers()) else {
        return unsupported_media_type(codec::UNARY_TYPES);
    };
    match call(request, codec, handler).await {
        Ok(body) => {
            let mut response = hyper::Response::new(http::full(body.freeze()));
            response.headers_mut().insert(CONTENT_TYPE, codec.unary_type());
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn call<Req, Res, F, Fut>(request: Request, codec: Codec, handler: F) -> Result<BytesMut, Error>
where
    Req: Message,
    Res: Message,
    F: FnOnce(Context, Req) -> Fut,
    Fut: Future<Output = Result<Res, Error>>,
{
    let (head, body) = request.into_parts();
    if let Some(encoding) = http::header_text(&head.headers, "content-encoding")
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(Error::new(
            Code::Unimplemented,
            format!("content encoding '{encoding}' is not supported; send identity"),
        ));
    }
    let context = Context::new(head.headers, codec)?;
    let message = codec.decode(http::read_whole(body).await?)?;
    let answer = handler(context, message).await?;
    let mut out = BytesMut::new();
    codec.encode(&answer, &mut out)?;
    Ok(out)
}
