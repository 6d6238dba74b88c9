//! Messages of `process.Process`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json;
use crate::connect::StreamItem;

macro_rules! messages {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
    )*};
}
pub(crate) use messages;

messages! {
    /// What a process runs.
    pub struct ProcessConfig {
        /// Program: a path, or a name looked up in the process's PATH.
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "json::null_default")]
        pub cmd: String,
        /// Arguments after the program's name.
        #[prost(string, repeated, tag = "2")]
        #[serde(deserialize_with = "json::null_default")]
        pub args: Vec<String>,
        /// Environment variables over those of the sandbox.
        #[prost(btree_map = "string, string", tag = "3")]
        #[serde(deserialize_with = "json::null_default")]
        pub envs: BTreeMap<String, String>,
        /// Working directory; `~` and relative paths start at the user's home.
        #[prost(string, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cwd: Option<String>,
    }

    /// Size of a terminal, in characters.
    pub struct PtySize {
        /// Columns.
        #[prost(uint32, tag = "1")]
        #[serde(deserialize_with = "json::integer")]
        pub cols: u32,
        /// Rows.
        #[prost(uint32, tag = "2")]
        #[serde(deserialize_with = "json::integer")]
        pub rows: u32,
    }

    /// A terminal.
    pub struct Pty {
        /// Its size; 80 x 24 when missing or 0.
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size: Option<PtySize>,
    }

    /// Names a process: one of the two.
    pub struct ProcessSelector {
        /// By process id.
        #[prost(uint32, optional, tag = "1")]
        #[serde(deserialize_with = "json::optional_integer", skip_serializing_if = "Option::is_none")]
        pub pid: Option<u32>,
        /// By the tag given at its start.
        #[prost(string, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tag: Option<String>,
    }

    /// Request of `List`.
    pub struct ListRequest {}

    /// One running process.
    pub struct ProcessInfo {
        /// What it runs.
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub config: Option<ProcessConfig>,
        /// Its process id.
        #[prost(uint32, tag = "2")]
        #[serde(deserialize_with = "json::integer")]
        pub pid: u32,
        /// The tag given at its start.
        #[prost(string, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tag: Option<String>,
    }

    /// Answer of `List`.
    pub struct ListResponse {
        /// Every process that was started through the agent and has not ended.
        #[prost(message, repeated, tag = "1")]
        #[serde(deserialize_with = "json::null_default")]
        pub processes: Vec<ProcessInfo>,
    }

    /// Request of `Start`.
    pub struct StartRequest {
        /// What to run.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessConfig>,
        /// Run it on a terminal.
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pty: Option<Pty>,
        /// A name to find it by.
        #[prost(string, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tag: Option<String>,
        /// Whether it gets a standard input that can be written to; true when missing.
        #[prost(bool, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stdin: Option<bool>,
    }

    /// Request of `Connect`.
    pub struct ConnectRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
    }

    /// Item of the streams of `Start` and `Connect`.
    pub struct ProcessOutput {
        /// What happened.
        #[prost(message, optional, tag = "1")]
        pub event: Option<ProcessEvent>,
    }

    /// What happened to a process: one of the four.
    pub struct ProcessEvent {
        /// First event of every stream.
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub start: Option<StartEvent>,
        /// It wrote something.
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub data: Option<DataEvent>,
        /// It ended; the last event.
        #[prost(message, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub end: Option<EndEvent>,
        /// Nothing happened for a while.
        #[prost(message, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keepalive: Option<KeepAlive>,
    }

    /// The process runs.
    pub struct StartEvent {
        /// Its process id.
        #[prost(uint32, tag = "1")]
        #[serde(deserialize_with = "json::integer")]
        pub pid: u32,
    }

    /// Output: one of the three, at most 32 KiB (16 KiB of a terminal).
    pub struct DataEvent {
        /// From standard output.
        #[prost(bytes = "bytes", optional, tag = "1")]
        #[serde(with = "json::optional_base64", skip_serializing_if = "Option::is_none")]
        pub stdout: Option<Bytes>,
        /// From standard error.
        #[prost(bytes = "bytes", optional, tag = "2")]
        #[serde(with = "json::optional_base64", skip_serializing_if = "Option::is_none")]
        pub stderr: Option<Bytes>,
        /// From the terminal.
        #[prost(bytes = "bytes", optional, tag = "3")]
        #[serde(with = "json::optional_base64", skip_serializing_if = "Option::is_none")]
        pub pty: Option<Bytes>,
    }

    /// The process ended.
    pub struct EndEvent {
        /// Its exit code; -1 when a signal ended it.
        #[prost(sint32, tag = "1")]
        #[serde(alias = "exit_code", deserialize_with = "json::integer")]
        pub exit_code: i32,
        /// Whether it exited by itself.
        #[prost(bool, tag = "2")]
        #[serde(deserialize_with = "json::null_default")]
        pub exited: bool,
        /// "exit status N" or "signal: killed".
        #[prost(string, tag = "3")]
        #[serde(deserialize_with = "json::null_default")]
        pub status: String,
        /// The status again, unless the exit code is 0.
        #[prost(string, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<String>,
    }

    /// Says that the stream lives.
    pub struct KeepAlive {}

    /// Request of `Update`.
    pub struct UpdateRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        /// The terminal's new size.
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pty: Option<Pty>,
    }

    /// Input for a process: one of the two.
    pub struct ProcessInput {
        /// To its standard input.
        #[prost(bytes = "bytes", optional, tag = "1")]
        #[serde(with = "json::optional_base64", skip_serializing_if = "Option::is_none")]
        pub stdin: Option<Bytes>,
        /// To its terminal.
        #[prost(bytes = "bytes", optional, tag = "2")]
        #[serde(with = "json::optional_base64", skip_serializing_if = "Option::is_none")]
        pub pty: Option<Bytes>,
    }

    /// Request of `SendInput`.
    pub struct SendInputRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        /// What to write.
        #[prost(message, optional, tag = "2")]
        pub input: Option<ProcessInput>,
    }

    /// Item of the stream of `StreamInput`: one of the three; `start` first.
    pub struct StreamInputRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub start: Option<StreamInputStart>,
        /// What to write.
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub data: Option<StreamInputData>,
        /// Says that the stream lives.
        #[prost(message, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keepalive: Option<KeepAlive>,
    }

    /// First item of `StreamInput`.
    pub struct StreamInputStart {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
    }

    /// Later item of `StreamInput`.
    pub struct StreamInputData {
        /// What to write.
        #[prost(message, optional, tag = "2")]
        pub input: Option<ProcessInput>,
    }

    /// Request of `SendSignal`.
    pub struct SendSignalRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        /// Which signal.
        #[prost(enumeration = "Signal", tag = "2")]
        #[serde(with = "signal_name")]
        pub signal: i32,
    }

    /// Request of `CloseStdin`.
    pub struct CloseStdinRequest {
        /// Which process.
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
    }

    /// Answer of everything that answers nothing.
    pub struct Empty {}
}

/// Signals of `SendSignal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Signal {
    /// None given.
    Unspecified = 0,
    /// Kill.
    Sigkill = 9,
    /// Terminate.
    Sigterm = 15,
}

/// A signal as its name (`SIGNAL_SIGKILL`) or number.
mod signal_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(i32),
        Name(String),
        Null(()),
    }

    pub(super) fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            0 => serializer.serialize_str("SIGNAL_UNSPECIFIED"),
            9 => serializer.serialize_str("SIGNAL_SIGKILL"),
            15 => serializer.serialize_str("SIGNAL_SIGTERM"),
            other => serializer.serialize_i32(*other),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(number),
            Form::Null(()) => Ok(0),
            Form::Name(name) => match name.as_str() {
                "SIGNAL_UNSPECIFIED" => Ok(0),
                "SIGNAL_SIGKILL" => Ok(9),
                "SIGNAL_SIGTERM" => Ok(15),
                _ => Err(de::Error::custom(format!("unknown signal '{name}'"))),
            },
        }
    }
}

impl ProcessOutput {
    fn of(event: ProcessEvent) -> Self {
        Self { event: Some(event) }
    }

    /// A start event.
    pub fn start(pid: u32) -> Self {
        Self::of(ProcessEvent {
            start: Some(StartEvent { pid }),
            ..ProcessEvent::default()
        })
    }

    /// A data event.
    pub fn data(data: DataEvent) -> Self {
        Self::of(ProcessEvent {
            data: Some(data),
            ..ProcessEvent::default()
        })
    }

    /// An end event.
    pub fn end(end: EndEvent) -> Self {
        Self::of(ProcessEvent {
            end: Some(end),
            ..ProcessEvent::default()
        })
    }
}

impl StreamItem for ProcessOutput {
    fn keepalive() -> Self {
        Self::of(ProcessEvent {
            keepalive: Some(KeepAlive {}),
            ..ProcessEvent::default()
        })
    }
}
