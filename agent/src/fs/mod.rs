//! The `filesystem.Filesystem` service and the file-system operations behind it.
//!
//! One verb a file; each verb is a blocking function on resolved paths, run by the service on
//! tokio's blocking pool.

pub mod copy_tree;
pub mod entry;
pub mod error;
pub mod list;
pub mod make_dir;
pub mod metadata;
pub mod owners;
pub mod ownership;
pub mod path;
pub mod remove;
pub mod rename;
pub mod watch;

use std::sync::Arc;

use crate::connect;
use crate::http::{Request, Response};
use crate::state::Agent;

/// What the service keeps between calls.
#[derive(Debug, Default)]
pub struct State {}

/// Answers one call of `filesystem.Filesystem`; `method` is the path's last part.
pub async fn handle(_agent: &Arc<Agent>, method: &str, _request: Request) -> Response {
    connect::Error::new(connect::Code::Unimplemented, format!("no method '{method}'")).into_response()
}
