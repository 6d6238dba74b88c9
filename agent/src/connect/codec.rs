//! Messages to and from bytes, in either codec.

use bytes::{BufMut, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use crate::http;

/// A message that both codecs can carry.
pub trait Message: prost::Message + Default + Serialize + DeserializeOwned + Send + 'static {}

impl<T: prost::Message + Default + Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// protobuf's JSON form.
    Json,
    /// protobuf's binary form.
    Proto,
}

pub(super) const UNARY_TYPES: &str = "application/json, application/proto";
pub(super) const STREAM_TYPES: &str = "application/connect+json, application/connect+proto";

impl Codec {
    /// Codec of a unary call with these headers; None = neither.
    pub(super) fn of_unary(headers: &HeaderMap) -> Option<Self> {
        match essence(headers)?.as_str() {
            "application/json" => Some(Self::Json),
            "application/proto" => Some(Self::Proto),
            _ => None,
        }
    }

    /// Codec of a stream with these headers; None = neither.
    pub(super) fn of_stream(headers: &HeaderMap) -> Option<Self> {
        match essence(headers)?.as_str() {
            "application/connect+json" => Some(Self::Json),
            "application/connect+proto" => Some(Self::Proto),
            _ => None,
        }
    }

    pub(super) fn unary_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Proto => "application/proto",
        })
    }

    pub(super) fn stream_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/connect+json",
            Self::Proto => "application/connect+proto",
        })
    }

    /// Reads a message. `invalid_argument` when the bytes are not one. No bytes are the empty message.
    pub fn decode<M: Message>(self, bytes: Bytes) -> Result<M, Error> {
        match self {
            Self::Json => http::parse_object(&bytes)
                .map_err(|error| Error::invalid(format!("the message is not valid JSON of its type: {error}"))),
            Self::Proto => {
                M::decode(bytes).map_err(|error| Error::invalid(format!("the message is not valid protobuf: {error}")))
            }
        }
    }

    /// Appends a message to `out`.
    pub fn encode<M: Message>(self, message: &M, out: &mut BytesMut) -> Result<(), Error> {
        match self {
            Self::Json => serde_json::to_writer((&mut *out).writer(), message)
                .map_err(|error| Error::internal(format!("the answer has no JSON form: {error}"))),
            Self::Proto => message
                .encode(out)
                .map_err(|error| Error::internal(format!("the answer has no protobuf form: {error}"))),
        }
    }
}

fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}
