//! The messages of `process.Process`, in both codecs.
//!
//! A protobuf `oneof` is written here as optional fields: the wire form of both codecs is the same.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($body:tt)* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($body)* }
    };
}

/// Bytes in protobuf's JSON mapping: base64, with or without padding, of either alphabet.
mod base64_bytes {
    use base64::Engine;
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const LOOSE: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&general_purpose::STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
        GeneralPurpose::new(alphabet, LOOSE).decode(text).map(Some).map_err(D::Error::custom)
    }
}

/// protobuf's JSON mapping takes an enum as its name or its number.
mod signal_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const NAMES: [(&str, i32); 3] = [("SIGNAL_UNSPECIFIED", 0), ("SIGNAL_SIGTERM", 15), ("SIGNAL_SIGKILL", 9)];

    pub fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        match NAMES.iter().find(|(_, number)| number == value) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.serialize_i32(*value),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i32),
            Name(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(number),
            Either::Name(name) => NAMES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, number)| *number)
                .ok_or_else(|| D::Error::custom(format!("unknown signal {name:?}"))),
        }
    }
}

message!(
    /// A message without fields.
    Empty {}
);

message!(
    /// What to run.
    ProcessConfig {
        #[prost(string, tag = "1")]
        pub cmd: String,
        #[prost(string, repeated, tag = "2")]
        pub args: Vec<String>,
        #[prost(map = "string, string", tag = "3")]
        pub envs: HashMap<String, String>,
        #[prost(string, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cwd: Option<String>,
    }
);

message!(
    /// A terminal's size in characters.
    PtySize {
        #[prost(uint32, tag = "1")]
        pub cols: u32,
        #[prost(uint32, tag = "2")]
        pub rows: u32,
    }
);

message!(
    /// A terminal.
    Pty {
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size: Option<PtySize>,
    }
);

message!(
    /// Which process is meant: by `pid` or by `tag`.
    ProcessSelector {
        #[prost(uint32, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pid: Option<u32>,
        #[prost(string, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tag: Option<String>,
    }
);

message!(
    /// `Start`.
    StartRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessConfig>,
        #[prost(message, optional, tag = "2")]
        pub pty: Option<Pty>,
        #[prost(string, optional, tag = "3")]
        pub tag: Option<String>,
        #[prost(bool, optional, tag = "4")]
        pub stdin: Option<bool>,
    }
);

message!(
    /// `Connect`, `CloseStdin`: a process and nothing else.
    SelectRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
    }
);

message!(
    /// The process runs.
    StartEvent {
        #[prost(uint32, tag = "1")]
        pub pid: u32,
    }
);

message!(
    /// Output: one of the three.
    DataEvent {
        #[prost(bytes = "vec", optional, tag = "1")]
        #[serde(with = "base64_bytes", skip_serializing_if = "Option::is_none")]
        pub stdout: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "2")]
        #[serde(with = "base64_bytes", skip_serializing_if = "Option::is_none")]
        pub stderr: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")]
        #[serde(with = "base64_bytes", skip_serializing_if = "Option::is_none")]
        pub pty: Option<Vec<u8>>,
    }
);

message!(
    /// The process ended. `exit_code` is -1 when a signal ended it.
    EndEvent {
        #[prost(sint32, tag = "1")]
        pub exit_code: i32,
        #[prost(bool, tag = "2")]
        pub exited: bool,
        #[prost(string, tag = "3")]
        pub status: String,
        #[prost(string, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<String>,
    }
);

message!(
    /// One of the four.
    ProcessEvent {
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub start: Option<StartEvent>,
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub data: Option<DataEvent>,
        #[prost(message, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub end: Option<EndEvent>,
        #[prost(message, optional, tag = "4")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keepalive: Option<Empty>,
    }
);

message!(
    /// What `Start` and `Connect` stream.
    EventResponse {
        #[prost(message, optional, tag = "1")]
        pub event: Option<ProcessEvent>,
    }
);

message!(
    /// One running process.
    ProcessInfo {
        #[prost(message, optional, tag = "1")]
        pub config: Option<ProcessConfig>,
        #[prost(uint32, tag = "2")]
        pub pid: u32,
        #[prost(string, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tag: Option<String>,
    }
);

message!(
    /// `List`.
    ListResponse {
        #[prost(message, repeated, tag = "1")]
        pub processes: Vec<ProcessInfo>,
    }
);

message!(
    /// `Update`.
    UpdateRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        #[prost(message, optional, tag = "2")]
        pub pty: Option<Pty>,
    }
);

message!(
    /// Input: one of the two.
    ProcessInput {
        #[prost(bytes = "vec", optional, tag = "1")]
        #[serde(with = "base64_bytes")]
        pub stdin: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "2")]
        #[serde(with = "base64_bytes")]
        pub pty: Option<Vec<u8>>,
    }
);

message!(
    /// `SendInput`.
    SendInputRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        #[prost(message, optional, tag = "2")]
        pub input: Option<ProcessInput>,
    }
);

message!(
    /// The data message of `StreamInput`.
    StreamInputData {
        #[prost(message, optional, tag = "2")]
        pub input: Option<ProcessInput>,
    }
);

message!(
    /// `StreamInput`: one of the three; the first one names the process.
    StreamInputRequest {
        #[prost(message, optional, tag = "1")]
        pub start: Option<SelectRequest>,
        #[prost(message, optional, tag = "2")]
        pub data: Option<StreamInputData>,
        #[prost(message, optional, tag = "3")]
        pub keepalive: Option<Empty>,
    }
);

message!(
    /// `SendSignal`. Numbers are the operating system's.
    SendSignalRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        #[prost(int32, tag = "2")]
        #[serde(with = "signal_name")]
        pub signal: i32,
    }
);

message!(
    /// `atoll.guest.v1.Guest/Signal`: any signal, by name (`SIGINT`, `INT`) or number.
    GuestSignalRequest {
        #[prost(message, optional, tag = "1")]
        pub process: Option<ProcessSelector>,
        #[prost(string, tag = "2")]
        pub signal: String,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_e2b_sends() {
        let request: StartRequest = serde_json::from_str(
            r#"{"process":{"cmd":"/bin/bash","args":["-l","-c","ls"],"envs":{"A":"1"}},"stdin":false,"unknown":[1]}"#,
        )
        .unwrap();
        let process = request.process.unwrap();
        assert_eq!((process.cmd.as_str(), process.args.len(), process.cwd), ("/bin/bash", 3, None));
        assert_eq!((request.stdin, request.pty), (Some(false), None));
    }

    #[test]
    fn bytes_are_base64_of_any_kind() {
        for text in ["-_8=", "+/8=", "-_8", "+/8"] {
            let input: ProcessInput = serde_json::from_str(&format!(r#"{{"stdin":"{text}"}}"#)).unwrap();
            assert_eq!(input.stdin, Some(vec![0xfb, 0xff]), "{text}");
        }
        assert!(serde_json::from_str::<ProcessInput>(r#"{"stdin":"$"}"#).is_err());
        let event = DataEvent { stdout: Some(vec![0xfb, 0xff]), ..DataEvent::default() };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"stdout":"+/8="}"#);
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for (text, number) in [(r#""SIGNAL_SIGKILL""#, Some(9)), ("15", Some(15)), (r#""SIGNAL_SIGHUP""#, None)] {
            let parsed = serde_json::from_str::<SendSignalRequest>(&format!(r#"{{"signal":{text}}}"#));
            assert_eq!(parsed.ok().map(|request| request.signal), number);
        }
    }
}
