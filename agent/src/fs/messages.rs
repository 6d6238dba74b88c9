//! The messages of `filesystem.Filesystem`, for both codecs.
//!
//! A protobuf `oneof` is written as optional fields: the bytes of both codecs are the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::{Entry, FileType};
use super::json::{event_type, file_type, rfc3339};
use super::watch::event::{Event, EventKind};
use crate::connect::StreamItem;
use crate::wire::json::{int64_string, integer, null_default};

macro_rules! message {
    ($(#[$about:meta])* $name:ident { $($body:tt)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(missing_docs, reason = "the fields are the protocol's own")]
        pub struct $name { $($body)* }
    };
}

message!(
    /// A message without fields.
    Empty {}
);

message!(
    /// `Stat`, `MakeDir` and `Remove`.
    PathRequest {
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "null_default")]
        pub path: String,
    }
);

message!(
    /// `Move`.
    MoveRequest {
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "null_default")]
        pub source: String,
        #[prost(string, tag = "2")]
        #[serde(deserialize_with = "null_default")]
        pub destination: String,
    }
);

message!(
    /// `ListDir`.
    ListDirRequest {
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "null_default")]
        pub path: String,
        #[prost(uint32, tag = "2")]
        #[serde(deserialize_with = "integer")]
        pub depth: u32,
    }
);

message!(
    /// `WatchDir` and `CreateWatcher`.
    WatchRequest {
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "null_default")]
        pub path: String,
        #[prost(bool, tag = "2")]
        #[serde(deserialize_with = "null_default")]
        pub recursive: bool,
        #[prost(bool, tag = "3")]
        #[serde(deserialize_with = "null_default")]
        pub include_entry: bool,
        #[prost(bool, tag = "4")]
        #[serde(deserialize_with = "null_default")]
        pub allow_network_mounts: bool,
    }
);

message!(
    /// `GetWatcherEvents` and `RemoveWatcher`, and the answer of `CreateWatcher`.
    WatcherId {
        #[prost(string, tag = "1")]
        #[serde(deserialize_with = "null_default")]
        pub watcher_id: String,
    }
);

message!(
    /// The answer of `Stat`, `MakeDir` and `Move`.
    EntryResponse {
        #[prost(message, optional, tag = "1")]
        pub entry: Option<EntryInfo>,
    }
);

message!(
    /// The answer of `ListDir`.
    ListDirResponse {
        #[prost(message, repeated, tag = "1")]
        pub entries: Vec<EntryInfo>,
    }
);

message!(
    /// One entry; see [`Entry`] for what the fields mean.
    EntryInfo {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int32, tag = "2")]
        #[serde(rename = "type", with = "file_type")]
        pub file_type: i32,
        #[prost(string, tag = "3")]
        pub path: String,
        #[prost(int64, tag = "4")]
        #[serde(serialize_with = "int64_string", deserialize_with = "integer")]
        pub size: i64,
        #[prost(uint32, tag = "5")]
        pub mode: u32,
        #[prost(string, tag = "6")]
        pub permissions: String,
        #[prost(string, tag = "7")]
        pub owner: String,
        #[prost(string, tag = "8")]
        pub group: String,
        #[prost(message, optional, tag = "9")]
        pub modified_time: Option<Timestamp>,
        #[prost(string, optional, tag = "10")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub symlink_target: Option<String>,
        #[prost(btree_map = "string, string", tag = "11")]
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub metadata: BTreeMap<String, String>,
        #[prost(bool, tag = "12")]
        pub is_symlink: bool,
    }
);

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&rfc3339(self.seconds, self.nanos))
    }
}

/// No request carries a time, so none is read; needed because messages go both ways in the type
/// system.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(input).map(|_| Self::default())
    }
}

message!(
    /// One change; see [`Event`].
    FilesystemEvent {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int32, tag = "2")]
        #[serde(rename = "type", with = "event_type")]
        pub event_type: i32,
        #[prost(message, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub entry: Option<EntryInfo>,
    }
);

message!(
    /// One item of `WatchDir`.
    WatchDirResponse {
        #[prost(message, optional, tag = "1")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub start: Option<Empty>,
        #[prost(message, optional, tag = "2")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub filesystem: Option<FilesystemEvent>,
        #[prost(message, optional, tag = "3")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keepalive: Option<Empty>,
    }
);

message!(
    /// The answer of `GetWatcherEvents`.
    WatcherEvents {
        #[prost(message, repeated, tag = "1")]
        pub events: Vec<FilesystemEvent>,
    }
);

impl StreamItem for WatchDirResponse {
    fn keepalive() -> Self {
        Self {
            keepalive: Some(Empty {}),
            ..Self::default()
        }
    }
}

impl From<Entry> for EntryInfo {
    fn from(entry: Entry) -> Self {
        Self {
            name: entry.name,
            file_type: match entry.file_type {
                FileType::Unspecified => 0,
                FileType::File => 1,
                FileType::Directory => 2,
                FileType::Symlink => 3,
            },
            path: entry.path,
            size: entry.size,
            mode: entry.mode,
            permissions: entry.permissions,
            owner: entry.owner,
            group: entry.group,
            modified_time: Some(Timestamp {
                seconds: entry.modified.0,
                nanos: entry.modified.1,
            }),
            is_symlink: entry.symlink_target.is_some(),
            symlink_target: entry.symlink_target,
            metadata: entry.metadata,
        }
    }
}

impl From<Event> for FilesystemEvent {
    fn from(event: Event) -> Self {
        Self {
            name: event.name,
            event_type: match event.kind {
                EventKind::Create => 1,
                EventKind::Write => 2,
                EventKind::Remove => 3,
                EventKind::Rename => 4,
                EventKind::Chmod => 5,
            },
            entry: event.entry.map(EntryInfo::from),
        }
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
