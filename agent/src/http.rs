//! Bodies, JSON answers and the plain HTTP error form `{"code":int,"message":str}`.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Body of every answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// Every answer.
pub type Response = hyper::Response<Body>;
/// Every request.
pub type Request = hyper::Request<Incoming>;

/// Largest body that is read whole, in bytes (4 MiB).
pub const MAX_WHOLE_BODY: usize = 4 * 1024 * 1024;

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than [`MAX_WHOLE_BODY`].
    #[error("the request body is larger than {MAX_WHOLE_BODY} bytes")]
    TooLarge,
    /// The connection broke, or the body's framing is wrong.
    #[error("the request body ended early or is malformed: {0}")]
    Broken(String),
}

/// Reads a body whole, at most [`MAX_WHOLE_BODY`] bytes.
pub async fn read_whole(body: Incoming) -> Result<Bytes, BodyError> {
    match Limited::new(body, MAX_WHOLE_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

/// Reads a JSON object; no bytes are the empty object.
///
/// serde would take an array for an object as well, filling fields by their order: that is refused.
pub fn parse_object<T: Default + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(T::default()),
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Some(_) => Err("it is not a JSON object".to_owned()),
    }
}

/// A body without bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body held whole in memory.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with no body.
pub fn status(status: StatusCode) -> Response {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer whose body is `value` as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let (status, bytes) = match serde_json::to_vec(value) {
        Ok(bytes) => (status, bytes),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{{\"code\":500,\"message\":\"the answer has no JSON form: {error}\"}}").into_bytes(),
        ),
    };
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The plain HTTP error form: `{"code": <status>, "message": <message>}`.
pub fn error(status: StatusCode, message: impl AsRef<str>) -> Response {
    json(
        status,
        &serde_json::json!({"code": status.as_u16(), "message": message.as_ref()}),
    )
}

/// A header's value as text; None when absent or not ASCII.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
