//! Signed file URLs: access to one path without the access token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use crate::auth::constant_time_eq;

/// What a signed URL allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `GET /files`
    Read,
    /// `POST /files`
    Write,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Why a request for a file is not authorized (HTTP 401). The texts are part of the contract:
/// clients compare them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// Neither token nor signature.
    #[error("missing signature query parameter")]
    Missing,
    /// Signed for something else, by another token, or not a signature.
    #[error("invalid signature")]
    Invalid,
    /// Past `signature_expiration`.
    #[error("signature is already expired")]
    Expired,
    /// An `X-Access-Token` header with a wrong token; a signature beside it does not help.
    #[error("access token present in header but does not match")]
    WrongToken,
}

/// What a request offers as proof, taken from its header and query.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proof<'a> {
    /// `X-Access-Token`, when present and not empty.
    pub header_token: Option<&'a str>,
    /// `path` as sent, decoded once; empty when absent.
    pub path: &'a str,
    /// `username` as sent; absent and empty are the same.
    pub username: &'a str,
    /// `signature` as sent.
    pub signature: Option<&'a str>,
    /// `signature_expiration`, in seconds since 1970.
    pub expiration_s: Option<i64>,
}

/// Decides whether `proof` allows `operation`, given the sandbox's `token` and the time `now_s`
/// (seconds since 1970).
///
/// # Errors
/// [`SignatureError`]; expiry is told only to whoever holds a genuine signature.
pub fn verify(proof: &Proof<'_>, operation: Operation, token: &str, now_s: i64) -> Result<(), SignatureError> {
    if let Some(offered) = proof.header_token {
        return if constant_time_eq(offered.as_bytes(), token.as_bytes()) {
            Ok(())
        } else {
            Err(SignatureError::WrongToken)
        };
    }
    let offered = proof.signature.ok_or(SignatureError::Missing)?;
    let expected = sign(proof, operation, token);
    if !constant_time_eq(offered.as_bytes(), expected.as_bytes()) {
        return Err(SignatureError::Invalid);
    }
    match proof.expiration_s {
        Some(expiration_s) if expiration_s < now_s => Err(SignatureError::Expired),
        _ => Ok(()),
    }
}

fn sign(proof: &Proof<'_>, operation: Operation, token: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(proof.path);
    hash.update(":");
    hash.update(operation.as_str());
    hash.update(":");
    hash.update(proof.username);
    hash.update(":");
    hash.update(token);
    if let Some(expiration_s) = proof.expiration_s {
        hash.update(":");
        hash.update(expiration_s.to_string());
    }
    format!("v1_{}", STANDARD_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sha256("/home/user/a.txt:read:user:secret"), computed outside this program.
    const KNOWN: &str = "v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo";
    /// sha256("/home/user/a.txt:write::secret:1700000000")
    const KNOWN_EXPIRING: &str = "v1_dXwXe8Z+I6rQsEdqGqhGbWk2wYSZWKq9TN4jJyuhiGU";

    fn proof(signature: Option<&'static str>) -> Proof<'static> {
        Proof {
            path: "/home/user/a.txt",
            username: "user",
            signature,
            ..Proof::default()
        }
    }

    #[test]
    fn known_signatures() {
        let read = proof(Some(KNOWN));
        assert_eq!(verify(&read, Operation::Read, "secret", 0), Ok(()));
        let write = Proof {
            username: "",
            expiration_s: Some(1_700_000_000),
            ..proof(Some(KNOWN_EXPIRING))
        };
        for (now_s, want) in [
            (1_699_999_999, Ok(())),
            (1_700_000_000, Ok(())),
            (1_700_000_001, Err(SignatureError::Expired)),
        ] {
            assert_eq!(verify(&write, Operation::Write, "secret", now_s), want);
        }
    }

    #[test]
    fn anything_else_than_what_was_signed_is_refused() {
        let genuine = proof(Some(KNOWN));
        let cases = [
            (
                Proof {
                    path: "/home/user/b.txt",
                    ..genuine
                },
                Operation::Read,
                "secret",
            ),
            (
                Proof {
                    username: "",
                    ..genuine
                },
                Operation::Read,
                "secret",
            ),
            (
                Proof {
                    expiration_s: Some(i64::MAX),
                    ..genuine
                },
                Operation::Read,
                "secret",
            ),
            (
                Proof {
                    signature: Some(""),
                    ..genuine
                },
                Operation::Read,
                "secret",
            ),
            (genuine, Operation::Write, "secret"),
            (genuine, Operation::Read, "other"),
        ];
        for (proof, operation, token) in cases {
            let result = verify(&proof, operation, token, 0);
            assert_eq!(result, Err(SignatureError::Invalid), "{proof:?}");
        }
        let none = verify(&proof(None), Operation::Read, "secret", 0);
        assert_eq!(none, Err(SignatureError::Missing));
    }

    #[test]
    fn a_header_token_decides_alone() {
        let with = |token| Proof {
            header_token: Some(token),
            ..proof(Some(KNOWN))
        };
        assert_eq!(verify(&with("secret"), Operation::Write, "secret", 0), Ok(()));
        assert_eq!(
            verify(&with("wrong"), Operation::Read, "secret", 0),
            Err(SignatureError::WrongToken)
        );
    }

    #[test]
    fn texts_clients_compare() {
        assert_eq!(SignatureError::Expired.to_string(), "signature is already expired");
        assert_eq!(SignatureError::Invalid.to_string(), "invalid signature");
    }
}
