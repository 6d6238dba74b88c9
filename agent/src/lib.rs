//! Atoll's guest agent: PID 1 of a sandbox, speaking E2B's envd protocol and our additions to it.
//!
//! Everything is in this library; `main` only calls [`boot`]. One thread runs an event loop that
//! sleeps until there is work; file operations that may block run on a small pool of threads that
//! end when idle.

pub mod auth;
pub mod boot;
pub mod connect;
mod epoll;
pub mod files;
pub mod fs;
pub mod guest;
pub mod http;
pub mod log;
pub mod process;
pub mod router;
pub mod server;
pub mod state;
pub mod sudo;
pub mod time;
mod userfiles;
pub mod users;
pub mod wire;

pub use state::Agent;

/// The agent's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Generation of the guest protocol, `spec/guest/gen-<n>.json`.
pub const GENERATION: u32 = 1;
/// The envd version whose contract is served.
pub const ENVD_VERSION: &str = "0.6.13";
