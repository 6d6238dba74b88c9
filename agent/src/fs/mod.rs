//! The `filesystem.Filesystem` service and the file-system operations behind it.
//!
//! One verb a file; each verb is a blocking function on resolved paths, run by the service on
//! tokio's blocking pool.

pub mod copy_tree;
pub mod entry;
pub mod error;
mod json;
pub mod list;
pub mod make_dir;
pub mod messages;
pub mod metadata;
mod metadata_memory;
pub mod owners;
pub mod ownership;
pub mod path;
pub mod remove;
pub mod rename;
pub mod service;
pub mod watch;

pub use service::handle;

/// What the service keeps between requests.
#[derive(Debug, Default)]
pub struct State {
    /// Watchers whose clients poll.
    pub pollers: watch::pollers::Pollers,
}
