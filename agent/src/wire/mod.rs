//! Messages of the wire, as the protobuf codec and protobuf's JSON form both write them.
//!
//! A oneof is several optional fields here: the bytes are the same, and a message that sets two of
//! them is seen and refused instead of silently losing one.

pub mod guest;
pub mod json;
pub mod process;
