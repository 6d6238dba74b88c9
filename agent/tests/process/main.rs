//! `process.Process` against the running agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod input;
mod lifetime;
mod output;
mod replay;
mod signals;
mod start;
mod stream;
