//! `sudo` where the kernel ignores set-user-id bits, as gVisor before 2025 does.
//!
//! The agent's program is mounted over `/usr/bin/sudo`. Called by that name it is a client without rights ([`call`]): it
//! hands its command, environment and standard descriptors to PID 1 over a socket, and PID 1 ([`serve`]) starts the
//! command when the caller may become root by the image's own rules ([`policy`]).
//!
//! The socket's name is abstract: PID 1 takes it before any other process exists and keeps it for life, so nobody can
//! bind, remove or cover it.

mod call;
mod environment;
mod message;
mod options;
mod policy;
mod relay;
mod resolve;
mod serve;
mod session;
mod signals;
mod start;
mod sudoers;

pub use call::{is_called, main};
pub use serve::{listen, serve};

/// Abstract name of the socket.
const SOCKET: &[u8] = b"atoll/sudo";
/// PID 1 offers sudo when this variable of its own is `1`.
const SWITCH: &str = "ATOLL_SUDO";
