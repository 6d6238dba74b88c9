use serde_json::json;

use crate::harness::Agent;
use crate::stream::{Stream, call};

#[test]
fn signals_reach_the_whole_group() {
    let agent = Agent::start();
    let (mut stream, pid) = Stream::shell(&agent, "sleep 1000 & sleep 1000 & echo ready; wait");
    stream.until("ready");
    let kill = json!({"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"});
    assert_eq!(call(&agent, "SendSignal", &kill), (200, json!({})));
    // The end comes only when nobody of the group holds the output any more.
    assert_eq!(stream.finish().2["status"], "signal: killed");
}

#[test]
fn a_kill_ends_the_stream_although_a_daemon_holds_the_output() {
    let agent = Agent::start();
    let (mut stream, pid) = Stream::shell(&agent, "setsid sleep 30 & sleep 1000 & echo ready; wait");
    stream.until("ready");
    call(&agent, "SendSignal", &json!({"process": {"pid": pid}, "signal": 9}));
    assert_eq!(stream.finish().2["status"], "signal: killed");
}

#[test]
fn any_signal_by_name_or_number() {
    let agent = Agent::start();
    for signal in [json!("SIGUSR1"), json!("usr1"), json!("10"), json!(10)] {
        let (mut stream, pid) = Stream::shell(
            &agent,
            "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.02; done",
        );
        stream.until("ready");
        let message = json!({"process": {"pid": pid}, "signal": signal});
        assert_eq!(call(&agent, "atoll.guest.v1.Guest/Signal", &message), (200, json!({})));
        let (out, _, end) = stream.finish();
        assert_eq!((out.as_str(), end["exitCode"].as_i64()), ("got\n", Some(5)));
    }
}

#[test]
fn refuses_unknown_signals_and_processes() {
    let agent = Agent::start();
    let (_stream, pid) = Stream::shell(&agent, "sleep 1000");
    let select = json!({"pid": pid});
    for (method, process, signal, status, code) in [
        ("SendSignal", &select, json!("SIGNAL_UNSPECIFIED"), 501, "unimplemented"),
        ("SendSignal", &select, json!(2), 501, "unimplemented"),
        ("SendSignal", &select, json!("SIGNAL_SIGHUP"), 400, "invalid_argument"),
        ("SendSignal", &json!({"pid": 999_999}), json!(9), 404, "not_found"),
        (
            "atoll.guest.v1.Guest/Signal",
            &select,
            json!("SIGNONE"),
            400,
            "invalid_argument",
        ),
        (
            "atoll.guest.v1.Guest/Signal",
            &select,
            json!(0),
            400,
            "invalid_argument",
        ),
        (
            "atoll.guest.v1.Guest/Signal",
            &json!({"tag": "x"}),
            json!("INT"),
            404,
            "not_found",
        ),
    ] {
        let (got, error) = call(&agent, method, &json!({"process": process, "signal": signal}));
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{method} {signal}");
    }
}
