//! The access token: who may talk to the agent at all.

use hyper::{HeaderMap, StatusCode};

use crate::http::{self, Response};

/// Header that carries the access token.
pub const TOKEN_HEADER: &str = "x-access-token";

const REFUSED: &str = "unauthorized access, please provide a valid access token or method signing if supported";

/// Whether two byte strings are equal, in time that depends only on their lengths.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let difference = left
        .iter()
        .zip(right)
        .fold(0u8, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Whether `headers` carry `token`. Everybody may pass while no token is set.
pub fn has_token(token: Option<&str>, headers: &HeaderMap) -> bool {
    match token {
        None => true,
        Some(token) => headers
            .get(TOKEN_HEADER)
            .is_some_and(|given| constant_time_eq(given.as_bytes(), token.as_bytes())),
    }
}

/// The answer to a request without the token: 401 and envd's text.
pub fn refusal() -> Response {
    http::error(StatusCode::UNAUTHORIZED, REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn compares_tokens() {
        for (token, given, passes) in [
            (None, None, true),
            (None, Some("anything"), true),
            (Some("secret"), Some("secret"), true),
            (Some("secret"), Some("secreT"), false),
            (Some("secret"), Some("secret2"), false),
            (Some("secret"), Some(""), false),
            (Some("secret"), None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(TOKEN_HEADER, HeaderValue::from_static(given));
            }
            assert_eq!(has_token(token, &headers), passes, "{token:?} {given:?}");
        }
    }
}
