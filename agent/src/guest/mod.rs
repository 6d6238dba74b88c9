//! What is not processes or files: initialisation, metrics, variables, information, sockets, the tunnel.

mod cpu;
pub mod envs;
mod identity;
pub mod info;
pub mod init;
pub mod metrics;
pub mod sockets;
pub mod tunnel;
