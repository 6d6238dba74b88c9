use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::Agent;
use crate::stream::{Stream, call, shell};

#[test]
fn delivers_everything_in_order_to_a_slow_reader() {
    let agent = Agent::start();
    let (mut stream, _) = Stream::shell(&agent, "i=0; while [ $i -lt 400000 ]; do echo $i; i=$((i+1)); done");
    let mut next = 0u64;
    let mut rest = Vec::new();
    let mut frames = 0;
    let end = loop {
        let (name, content) = stream.event();
        if name == "end" {
            break content;
        }
        frames += 1;
        if frames == 3 {
            // Long enough that the writer fills every buffer on the way and is held back.
            std::thread::sleep(Duration::from_millis(300));
        }
        use base64::Engine as _;
        let text = content["stdout"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        assert!(bytes.len() <= 32 * 1024);
        rest.extend(bytes);
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=at).collect();
            assert_eq!(String::from_utf8(line).unwrap(), format!("{next}\n"));
            next += 1;
        }
    };
    assert_eq!((next, end["exitCode"].as_i64()), (400_000, Some(0)));
    assert!(agent.resident_kib() < 16 * 1024, "{}", agent.resident_kib());
}

#[test]
fn a_connected_reader_that_does_not_read_holds_the_process_back() {
    let agent = Agent::start();
    let mark = agent.at("progress");
    let script = format!(
        "i=0; while :; do head -c 1000000 /dev/zero; i=$((i+1)); echo $i > {}; done",
        mark.display()
    );
    let (stream, pid) = Stream::shell(&agent, &script);
    // Stable for a while: everything between the two is full.
    let progress = || std::fs::read_to_string(&mark).unwrap_or_default();
    let mut seen = progress();
    let mut since = Instant::now();
    let began = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the process is never held back: {seen}"
        );
        if progress() != seen {
            seen = progress();
            since = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Its client gone, it runs free.
    drop(stream);
    while progress() == seen {
        assert!(began.elapsed() < Duration::from_secs(60), "the process stays held back");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(
        call(
            &agent,
            "SendSignal",
            &json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})
        )
        .0,
        200
    );
    assert!(agent.resident_kib() < 16 * 1024, "{}", agent.resident_kib());
}

#[test]
fn output_without_a_reader_never_blocks() {
    let agent = Agent::start();
    let done = agent.at("done");
    let script = format!("head -c 20000000 /dev/zero; echo yes > {}; sleep 1000", done.display());
    let (stream, pid) = Stream::shell(&agent, &script);
    drop(stream);
    let began = Instant::now();
    while !done.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "the process is blocked");
        std::thread::sleep(Duration::from_millis(10));
    }
    call(
        &agent,
        "SendSignal",
        &json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}),
    );
}

#[test]
fn waits_for_those_who_hold_the_output() {
    let agent = Agent::start();
    let (mut stream, _) = Stream::shell(&agent, "(sleep 0.3; echo late) & echo early");
    assert_eq!(stream.finish().0, "early\nlate\n");
}

#[test]
fn sends_keepalives_at_the_interval_asked_for() {
    let agent = Agent::start();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &shell("sleep 1.5"),
        &[("Keepalive-Ping-Interval", "1")],
    );
    stream.start();
    assert_eq!(stream.event(), ("keepalive".to_owned(), json!({})));
    stream.finish();
}

#[test]
fn sends_a_keepalive_halfway_to_a_deadline_that_comes_before_the_interval() {
    let agent = Agent::start();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &shell("sleep 5"),
        &[("Keepalive-Ping-Interval", "50"), ("Connect-Timeout-Ms", "1000")],
    );
    stream.start();
    assert_eq!(stream.event(), ("keepalive".to_owned(), json!({})));
    assert_eq!(stream.error().0, "deadline_exceeded");
}
