//! The wire contract: its frozen form, both codecs against an independent implementation, and hostile bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod codecs;
mod fuzz;
mod proto;
mod schema;
