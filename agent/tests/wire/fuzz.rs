//! Hostile bytes: decoders end with a message or an error, never with a panic, and never hold more than they were given.
//!
//! Seeded, so that a failure comes again; `ATOLL_FUZZ_CASES` sets how many cases (default 2000 a decoder).

use atoll_agent::connect::{Codec, Message, envelope};
use atoll_agent::fs::messages as fs;
use atoll_agent::wire::{guest, process};
use atoll_agent::{time, users};
use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    let cases = std::env::var("ATOLL_FUZZ_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(2000),
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(strategy, |value| {
            test(value);
            Ok(())
        })
        .unwrap();
}

/// Bytes near to what is expected: pieces of JSON and of protobuf among noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"process\"",
        b"\"cmd\"",
        b"\"args\"",
        b"\"envs\"",
        b"\"pid\"",
        b"\"tag\"",
        b"\"input\"",
        b"\"stdin\"",
        b"\"signal\"",
        b"\"SIGNAL_SIGKILL\"",
        b"\"path\"",
        b"null",
        b"true",
        b"-1",
        b"1e400",
        b"4294967296",
        b"\"AAA=\"",
        b"\"\\ud800\"",
        b"\x0a",
        b"\x12\x05",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0b",
        b"\x0c",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn decode<M: Message + PartialEq>(bytes: &[u8]) {
    for codec in [Codec::Json, Codec::Proto] {
        if let Ok(message) = codec.decode::<M>(Bytes::copy_from_slice(bytes)) {
            // What was read can be written, and reads the same again.
            let mut out = BytesMut::new();
            codec.encode(&message, &mut out).unwrap();
            assert!(codec.decode::<M>(out.freeze()).unwrap() == message, "{bytes:?}");
        }
    }
}

#[test]
fn messages() {
    run(&bytes(), |bytes| {
        decode::<process::StartRequest>(&bytes);
        decode::<process::ConnectRequest>(&bytes);
        decode::<process::UpdateRequest>(&bytes);
        decode::<process::SendInputRequest>(&bytes);
        decode::<process::StreamInputRequest>(&bytes);
        decode::<process::SendSignalRequest>(&bytes);
        decode::<process::ProcessOutput>(&bytes);
        decode::<guest::SignalRequest>(&bytes);
        decode::<fs::PathRequest>(&bytes);
        decode::<fs::MoveRequest>(&bytes);
        decode::<fs::ListDirRequest>(&bytes);
        decode::<fs::WatchRequest>(&bytes);
        decode::<fs::WatcherId>(&bytes);
    });
}

#[test]
fn envelopes() {
    let head = (any::<u8>(), prop_oneof![0u32..40, any::<u32>()]);
    let part = (head, proptest::collection::vec(any::<u8>(), 0..40));
    run(&proptest::collection::vec(part, 0..6), |parts| {
        let mut stream = BytesMut::new();
        for ((flags, length), body) in parts {
            stream.extend_from_slice(&[if flags < 128 { flags & 2 } else { flags }]);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.extend_from_slice(&body);
        }
        let whole = stream.len();
        let mut taken = 0;
        while let Ok(Some(envelope)) = envelope::take(&mut stream) {
            assert!(envelope.message.len() <= envelope::MAX_MESSAGE);
            taken += envelope::HEAD + envelope.message.len();
        }
        assert_eq!(taken + stream.len(), whole, "every byte is taken once or left");
    });
}

#[test]
fn headers_and_times() {
    run(&proptest::collection::vec(any::<u8>(), 0..60), |bytes| {
        let mut headers = HeaderMap::new();
        let value = [&b"Basic "[..], &bytes].concat();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(AUTHORIZATION, value);
            if let Ok(Some(name)) = users::basic_auth_user(&headers) {
                assert!(!name.is_empty() && !name.contains(':'));
            }
        }
    });
    run(&"[0-9T:.Z+ é-]{0,40}", |text| {
        let _ = time::parse_rfc3339(&text);
    });
    run(&any::<u64>(), |seconds| {
        let time = std::time::Duration::new(seconds % 250_000_000_000, 5_000_000);
        assert_eq!(time::parse_rfc3339(&time::rfc3339(time)), Some(time));
    });
}
