//! Everything but processes and files, against the running agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod boot;
mod endpoints;
mod hostile;
mod idle;
mod init;
mod tunnel;
