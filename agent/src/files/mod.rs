//! `GET /files`, `POST /files` and `POST /files/compose`.

pub mod chunks;
pub mod conditional;
pub mod disposition;
pub mod download;
pub mod encoding;
pub mod error;
pub mod media_type;
pub mod multipart;
pub mod open;
pub mod pump;
pub mod query;
pub mod range;
pub mod signature;
pub mod sink;

use std::sync::Arc;

use crate::http::{Request, Response};
use crate::router;
use crate::state::Agent;

/// Answers `/files` (token or signature to be checked here) and `/files/compose` (token checked).
pub async fn handle(_agent: &Arc<Agent>, request: Request) -> Response {
    router::not_found(request.uri().path())
}
