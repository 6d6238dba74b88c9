//! The Connect protocol, version 1: unary calls, server streams and client streams, in the JSON and
//! the protobuf codec.
//!
//! A message type needs `prost::Message + Default + Serialize + DeserializeOwned`; items of a server
//! stream also implement [`StreamItem`]. Content types: `application/{json,proto}` for unary calls,
//! `application/connect+{json,proto}` for streams. Nothing is compressed.

mod codec;
pub mod envelope;
mod error;
mod input;
mod stream;
mod unary;

use std::time::Duration;

use hyper::HeaderMap;

pub use codec::{Codec, Message};
pub use error::{Code, Error};
pub use input::{Messages, client_stream};
pub use stream::{StreamItem, Streaming, server_stream};
pub use unary::unary;

/// Header with the milliseconds a call may take.
pub const TIMEOUT_HEADER: &str = "connect-timeout-ms";
/// Header with the seconds between keepalive frames of a server stream.
pub const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// What a handler may know about its call besides the message.
#[derive(Debug, Clone)]
pub struct Context {
    /// The request's headers.
    pub headers: HeaderMap,
    /// `Connect-Timeout-Ms`; None when absent or 0. A server stream ends with `deadline_exceeded`
    /// after it; a unary handler does not see it enforced.
    pub timeout: Option<Duration>,
    /// Codec of the request and of the answer.
    pub codec: Codec,
}

impl Context {
    fn new(headers: HeaderMap, codec: Codec) -> Result<Self, Error> {
        Ok(Self {
            timeout: timeout(&headers)?,
            headers,
            codec,
        })
    }
}

/// `Connect-Timeout-Ms`: at most 10 digits; absent, empty and 0 mean none.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?").trim();
    let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(ms) if digits => Ok(Some(Duration::from_millis(ms))),
        _ if text.is_empty() => Ok(None),
        _ => Err(Error::invalid(format!(
            "the header Connect-Timeout-Ms must be at most 10 digits, not '{text}'"
        ))),
    }
}

/// `Keepalive-Ping-Interval`: seconds; absent, 0 and nonsense mean no keepalive frames.
fn keepalive(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEEPALIVE_HEADER)?.to_str().ok()?;
    match text.trim().parse::<u32>() {
        Ok(0) | Err(_) => None,
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn reads_timeouts() {
        for (value, expected) in [
            ("1500", Ok(Some(1500))),
            ("0", Ok(None)),
            ("", Ok(None)),
            ("9999999999", Ok(Some(9_999_999_999))),
            ("10000000000", Err(())),
            ("-1", Err(())),
            ("1.5", Err(())),
            ("+5", Err(())),
            ("soon", Err(())),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, HeaderValue::from_static(value));
            let got = timeout(&headers).map_err(|_| ());
            assert_eq!(got, expected.map(|ms| ms.map(Duration::from_millis)), "{value}");
        }
        assert_eq!(timeout(&HeaderMap::new()).map_err(|_| ()), Ok(None));
    }

    #[test]
    fn reads_keepalive_intervals() {
        for (value, expected) in [
            ("50", Some(50)),
            ("0", None),
            ("x", None),
            ("-3", None),
            (" 7 ", Some(7)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(KEEPALIVE_HEADER, HeaderValue::from_static(value));
            assert_eq!(keepalive(&headers), expected.map(Duration::from_secs), "{value}");
        }
    }
}
