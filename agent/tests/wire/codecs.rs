//! Our messages against prost-reflect's reading of the descriptors: what one writes the other reads, in both codecs.

use atoll_agent::connect::{Codec, Message};
use atoll_agent::fs::messages as fs;
use atoll_agent::wire::{guest, process};
use bytes::{Bytes, BytesMut};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, Value};

use crate::proto::pool;

/// A message of `descriptor` whose fields are chosen by `bytes`; empty once they run out.
fn arbitrary(descriptor: &MessageDescriptor, bytes: &mut impl Iterator<Item = u8>, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let Some(choice) = bytes.next() else { break };
        if choice % 3 == 0 || depth == 0 {
            continue;
        }
        let exclusive = field
            .containing_oneof()
            .is_some_and(|oneof| oneof.fields().count() > 1 && oneof.fields().any(|other| message.has_field(&other)));
        if exclusive {
            continue;
        }
        let mut scalar = |kind: &Kind| value(kind, bytes, depth);
        let value = if field.is_map() {
            let entries = (0..choice % 4).map(|index| {
                (
                    MapKey::String(format!("k{index}é")),
                    Value::String(format!("v{choice}")),
                )
            });
            Value::Map(entries.collect())
        } else if field.is_list() {
            Value::List((0..choice % 4).map(|_| scalar(&field.kind())).collect())
        } else {
            scalar(&field.kind())
        };
        message.set_field(&field, value);
    }
    message
}

fn value(kind: &Kind, bytes: &mut impl Iterator<Item = u8>, depth: u32) -> Value {
    let mut next = || u32::from(bytes.next().unwrap_or(0));
    match kind {
        Kind::Bool => Value::Bool(next() % 2 == 1),
        Kind::Uint32 => Value::U32(next().wrapping_mul(0x0101_0101)),
        Kind::Sint32 | Kind::Int32 => Value::I32(next().wrapping_mul(0x0101_0101).cast_signed()),
        Kind::Int64 => Value::I64(i64::from(next()) << 40),
        Kind::String => Value::String(["", "x", "/home/ü", "\"\\\n\u{7f}", "~/a b"][next() as usize % 5].to_owned()),
        Kind::Bytes => Value::Bytes(Bytes::from(vec![next().to_le_bytes()[0]; next() as usize % 9])),
        Kind::Enum(kind) => {
            let values: Vec<i32> = kind.values().map(|value| value.number()).collect();
            Value::EnumNumber(values[next() as usize % values.len()])
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            let mut time = DynamicMessage::new(message.clone());
            time.set_field_by_name("seconds", Value::I64(i64::from(next()) * 10_000_000));
            Value::Message(time)
        }
        Kind::Message(message) => Value::Message(arbitrary(message, bytes, depth - 1)),
        other => panic!("no message uses {other:?}"),
    }
}

/// protobuf to ours and back, JSON to ours and back: nothing may be lost on the way.
fn check<M: Message + PartialEq>(pool: &DescriptorPool, name: &str, reads_json: bool) {
    let descriptor = pool.get_message_by_name(name).unwrap();
    let config = Config {
        cases: 150,
        rng_seed: RngSeed::Fixed(42),
        failure_persistence: None,
        ..Config::default()
    };
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..60);
    TestRunner::new(config)
        .run(&bytes, |bytes| {
            let theirs = arbitrary(&descriptor, &mut bytes.into_iter(), 4);
            let ours: M = Codec::Proto.decode(theirs.encode_to_vec().into()).unwrap();
            let mut out = BytesMut::new();
            Codec::Proto.encode(&ours, &mut out).unwrap();
            let canonical = |message: &DynamicMessage| serde_json::to_value(message).unwrap();
            let expected = canonical(&theirs);
            let back = DynamicMessage::decode(descriptor.clone(), out.freeze()).unwrap();
            assert_eq!(canonical(&back), expected, "{name}");
            let mut json = BytesMut::new();
            Codec::Json.encode(&ours, &mut json).unwrap();
            let text = String::from_utf8(json.to_vec()).unwrap();
            let mut reader = serde_json::Deserializer::from_str(&text);
            let back = DynamicMessage::deserialize(descriptor.clone(), &mut reader).unwrap();
            assert_eq!(canonical(&back), expected, "{name}: {text}");
            if reads_json {
                for text in [text, serde_json::to_string(&theirs).unwrap()] {
                    let again: M = Codec::Json.decode(Bytes::from(text.clone())).unwrap();
                    assert!(again == ours, "{name}: {text}");
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn process_messages_agree() {
    let pool = pool();
    check::<process::ListResponse>(&pool, "process.ListResponse", true);
    check::<process::StartRequest>(&pool, "process.StartRequest", true);
    check::<process::ConnectRequest>(&pool, "process.ConnectRequest", true);
    check::<process::ProcessOutput>(&pool, "process.StartResponse", true);
    check::<process::ProcessOutput>(&pool, "process.ConnectResponse", true);
    check::<process::UpdateRequest>(&pool, "process.UpdateRequest", true);
    check::<process::SendInputRequest>(&pool, "process.SendInputRequest", true);
    check::<process::StreamInputRequest>(&pool, "process.StreamInputRequest", true);
    check::<process::SendSignalRequest>(&pool, "process.SendSignalRequest", true);
    check::<process::CloseStdinRequest>(&pool, "process.CloseStdinRequest", true);
    check::<process::Empty>(&pool, "process.ListRequest", true);
    check::<guest::SignalRequest>(&pool, "atoll.guest.v1.SignalRequest", true);
}

#[test]
fn filesystem_messages_agree() {
    let pool = pool();
    for name in ["StatRequest", "MakeDirRequest", "RemoveRequest"] {
        check::<fs::PathRequest>(&pool, &format!("filesystem.{name}"), true);
    }
    check::<fs::MoveRequest>(&pool, "filesystem.MoveRequest", true);
    check::<fs::ListDirRequest>(&pool, "filesystem.ListDirRequest", true);
    for name in ["WatchDirRequest", "CreateWatcherRequest"] {
        check::<fs::WatchRequest>(&pool, &format!("filesystem.{name}"), true);
    }
    for name in [
        "CreateWatcherResponse",
        "GetWatcherEventsRequest",
        "RemoveWatcherRequest",
    ] {
        check::<fs::WatcherId>(&pool, &format!("filesystem.{name}"), true);
    }
    // Answers with times are only ever written by the agent.
    for name in ["StatResponse", "MakeDirResponse", "MoveResponse"] {
        check::<fs::EntryResponse>(&pool, &format!("filesystem.{name}"), false);
    }
    check::<fs::ListDirResponse>(&pool, "filesystem.ListDirResponse", false);
    check::<fs::WatchDirResponse>(&pool, "filesystem.WatchDirResponse", false);
    check::<fs::WatcherEvents>(&pool, "filesystem.GetWatcherEventsResponse", false);
}
