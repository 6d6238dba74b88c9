//! Taking up a stream where it broke: `Atoll-Replay-From` and `Atoll-Replay-Gap`.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::connect::Error;

/// Request header: how many output bytes of the process the client has.
const FROM: &str = "atoll-replay-from";
/// Response header: how many bytes after those are lost.
const GAP: HeaderName = HeaderName::from_static("atoll-replay-gap");

/// The place to read from; None without the header. `invalid_argument` when it is not a count.
pub fn from(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get(FROM) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?").trim();
    text.parse().map(Some).map_err(|_| {
        Error::invalid(format!(
            "the header Atoll-Replay-From must be a count of bytes, not '{text}'"
        ))
    })
}

/// The headers that tell of `lost` bytes; none for none.
pub fn headers(lost: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if lost > 0 {
        headers.insert(GAP, HeaderValue::from(lost));
    }
    headers
}
