use serde_json::json;

use crate::harness::Agent;
use crate::lifetime::until_none;
use crate::stream::{Stream, call, refusal};

const NUMBERS: &str = "i=1000; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done";

#[test]
fn takes_up_a_broken_stream_without_gap_or_duplicate() {
    let agent = Agent::start();
    let (mut first, pid) = Stream::shell(&agent, &format!("{NUMBERS}; sleep 0.3; {NUMBERS}"));
    let head = first.data().1;
    let from = head.len().to_string();
    drop(first);
    let mut second = Stream::open(
        &agent,
        "Connect",
        &json!({"process": {"pid": pid}}),
        &[("Atoll-Replay-From", &from)],
    );
    assert!(!second.head.contains("atoll-replay-gap"));
    assert_eq!(second.start(), pid);
    let all = String::from_utf8(head).unwrap() + &second.finish().0;
    let once: String = (1000..3000).map(|number| format!("{number}\n")).collect();
    assert_eq!(all, once.repeat(2));
}

#[test]
fn an_ended_process_is_replayed_or_only_ends() {
    let agent = Agent::start();
    let (mut first, pid) = Stream::shell(&agent, "echo out; echo err >&2; exit 4");
    first.finish();
    until_none(&agent);
    let select = json!({"process": {"pid": pid}});
    let mut plain = Stream::open(&agent, "Connect", &select, &[]);
    plain.start();
    let (out, err, end) = plain.finish();
    assert_eq!(
        (out.as_str(), err.as_str(), end["exitCode"].as_i64()),
        ("", "", Some(4))
    );
    let mut replay = Stream::open(&agent, "Connect", &select, &[("Atoll-Replay-From", "0")]);
    replay.start();
    let (out, err, _) = replay.finish();
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let (status, error) = call(
        &agent,
        "SendSignal",
        &json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGTERM"}),
    );
    assert_eq!((status, error["code"].as_str()), (404, Some("not_found")));
}

#[test]
fn tells_how_much_is_lost() {
    let agent = Agent::start();
    let (first, pid) = Stream::shell(&agent, "head -c 1000000 /dev/zero; echo; echo end");
    drop(first);
    until_none(&agent);
    let select = json!({"process": {"pid": pid}});
    let mut replay = Stream::open(&agent, "Connect", &select, &[("Atoll-Replay-From", "5")]);
    replay.start();
    let (out, _, _) = replay.finish();
    let lost = 1_000_005 - 5 - out.len();
    assert_eq!(out.len(), 256 * 1024);
    assert!(out.ends_with("\nend\n"));
    assert!(
        replay.head.contains(&format!("atoll-replay-gap: {lost}\r\n")),
        "{}",
        replay.head
    );
}

#[test]
fn refuses_bad_places_and_unknown_processes() {
    let agent = Agent::start();
    let (_stream, pid) = Stream::shell(&agent, "sleep 1000");
    for place in ["-1", "x", "", "1.5", "99999999999999999999999"] {
        let headers = [("Atoll-Replay-From", place)];
        let (code, _) = refusal(&agent, "Connect", &json!({"process": {"pid": pid}}), &headers);
        assert_eq!(code, "invalid_argument", "{place}");
    }
    for selector in [json!({"pid": 999_999}), json!({"tag": "none"})] {
        assert_eq!(
            refusal(&agent, "Connect", &json!({"process": selector}), &[]).0,
            "not_found"
        );
    }
    assert_eq!(refusal(&agent, "Connect", &json!({}), &[]).0, "invalid_argument");
}
