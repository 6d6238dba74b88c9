use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::Agent;
use crate::stream::{Stream, call, refusal, shell};

/// Waits until the agent lists no process.
pub fn until_none(agent: &Agent) {
    let began = Instant::now();
    while call(agent, "List", &json!({})).1 != json!({"processes": []}) {
        assert!(began.elapsed() < Duration::from_secs(30), "a process is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_timeout_ends_the_process_and_its_stream() {
    let agent = Agent::start();
    let began = Instant::now();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &shell("sleep 1000 & sleep 1000"),
        &[("Connect-Timeout-Ms", "300")],
    );
    let pid = stream.start();
    assert_eq!(stream.error().0, "deadline_exceeded");
    assert!(began.elapsed() >= Duration::from_millis(300));
    until_none(&agent);
    assert!(began.elapsed() < Duration::from_secs(20));
    let mut late = Stream::open(&agent, "Connect", &json!({"process": {"pid": pid}}), &[]);
    assert_eq!(late.start(), pid);
    assert_eq!(late.finish().2["status"], "signal: killed");
}

#[test]
fn zero_is_no_timeout_and_nonsense_is_refused() {
    let agent = Agent::start();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &shell("sleep 0.2; echo ok"),
        &[("Connect-Timeout-Ms", "0")],
    );
    stream.start();
    assert_eq!(stream.finish().0, "ok\n");
    let (code, _) = refusal(&agent, "Start", &shell("true"), &[("Connect-Timeout-Ms", "soon")]);
    assert_eq!(code, "invalid_argument");
}

#[test]
fn a_vanished_client_never_kills() {
    let agent = Agent::start();
    let (mut first, pid) = Stream::shell(&agent, "echo up; sleep 1000");
    first.until("up");
    drop(first);
    let mut second = Stream::open(&agent, "Connect", &json!({"process": {"pid": pid}}), &[]);
    assert_eq!(second.start(), pid);
    assert_eq!(
        call(&agent, "SendSignal", &json!({"process": {"pid": pid}, "signal": 15})).0,
        200
    );
    assert_eq!(second.finish().2["status"], "signal: terminated");
}

#[test]
fn the_timeout_of_a_late_reader_ends_only_its_stream() {
    let agent = Agent::start();
    let (mut first, pid) = Stream::shell(&agent, "sleep 0.6; echo done");
    let message = json!({"process": {"pid": pid}});
    let mut second = Stream::open(&agent, "Connect", &message, &[("Connect-Timeout-Ms", "100")]);
    second.start();
    assert_eq!(second.error().0, "deadline_exceeded");
    assert_eq!(first.finish().0, "done\n");
}

#[test]
fn zombies_and_orphans_are_reaped() {
    let agent = Agent::start();
    let (mut stream, _) = Stream::shell(&agent, "(sleep 0.1 & ) ; (sh -c 'sleep 0.2 & echo $!')");
    let orphan = stream.until("\n").trim().to_owned();
    stream.finish();
    let began = Instant::now();
    while std::path::Path::new(&format!("/proc/{orphan}")).exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "the orphan stays a zombie");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_is_left_open_by_many_processes() {
    let agent = Agent::start();
    let (mut stream, _) = Stream::shell(&agent, "true");
    stream.finish();
    drop(stream);
    agent.get("/health");
    let before = agent.open_files();
    for _ in 0..30 {
        let (mut stream, _) = Stream::shell(&agent, "echo x");
        stream.finish();
        refusal(&agent, "Start", &json!({"process": {"cmd": "/no/such"}}), &[]);
    }
    let began = Instant::now();
    while agent.open_files() > before {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{} files, {before} before",
            agent.open_files()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
