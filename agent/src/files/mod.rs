//! `GET /files`, `POST /files` and `POST /files/compose`.
//!
//! Nothing is held whole: an upload goes into its destination as it arrives, a download is read as
//! it is sent, each by short jobs on the blocking pool with at most a few 256 KiB chunks in memory.

pub mod body;
pub mod chunks;
pub mod compose;
pub mod conditional;
pub mod disposition;
pub mod download;
pub mod encoding;
pub mod error;
mod handler;
pub mod media_type;
pub mod multipart;
pub mod open;
pub mod pump;
pub mod query;
pub mod range;
mod release;
pub mod scope;
pub mod signature;
pub mod sink;
pub mod upload;

pub use handler::handle;
