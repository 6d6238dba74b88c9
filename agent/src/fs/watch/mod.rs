//! Watching directories with inotify.
//!
//! [`tree::Tree`] knows which directories are watched and turns kernel events into ours;
//! [`feed::Feed`] waits for it without a thread or a timer; [`pollers::Pollers`] keeps the watchers
//! of clients that poll instead of holding a stream.

pub mod event;
pub mod feed;
pub(super) mod kernel;
pub mod pollers;
mod scan;
pub mod tree;
