//! Messages of `atoll.guest.v1.Guest`.

use serde::{Deserialize, Serialize};

use super::process::{ProcessSelector, messages};

messages! {
    /// Request of `Signal`.
    pub struct SignalRequest {
        /// Which process; the signal goes to its whole process group.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        /// Name (`SIGINT`, `INT`) or number (`"2"`).
        #[prost(string, tag = "2")]
        #[serde(deserialize_with = "signal_text")]
        pub signal: String,
    }
}

/// A name or a number; the number as text.
fn signal_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(i64),
        Name(String),
        Null(()),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Number(number) => number.to_string(),
        Form::Name(name) => name,
        Form::Null(()) => String::new(),
    })
}
