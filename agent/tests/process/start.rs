use serde_json::json;

use crate::harness::{Agent, is_root};
use crate::stream::{Stream, call, refusal, shell};

#[test]
fn runs_and_tells_how_it_ended() {
    let agent = Agent::start();
    for (script, out, err, code, exited, status) in [
        ("echo hi", "hi\n", "", 0, true, "exit status 0"),
        ("echo no >&2; exit 7", "", "no\n", 7, true, "exit status 7"),
        ("kill -KILL $$", "", "", -1, false, "signal: killed"),
        ("kill -TERM $$", "", "", -1, false, "signal: terminated"),
        ("cat", "", "", 0, true, "exit status 0"),
    ] {
        let (mut stream, _) = Stream::shell(&agent, script);
        let (got_out, got_err, end) = stream.finish();
        assert_eq!((got_out.as_str(), got_err.as_str()), (out, err), "{script}");
        assert_eq!(end["exitCode"], code, "{script}");
        assert_eq!(end["exited"], exited, "{script}");
        assert_eq!(end["status"], status, "{script}");
        let error = (code != 0).then_some(status);
        assert_eq!(end.get("error").and_then(|error| error.as_str()), error, "{script}");
    }
}

#[test]
fn gives_a_clean_process() {
    let agent = Agent::start();
    let script = "echo $$; cut -d' ' -f5,6 /proc/self/stat; ls -l /proc/self/fd | grep -c -- '->'; \
                  grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -n";
    let (mut stream, pid) = Stream::shell(&agent, script);
    let (out, _, _) = stream.finish();
    let lines: Vec<&str> = out.lines().collect();
    let own = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n"])
        .output()
        .unwrap();
    assert_eq!(lines[0], pid.to_string());
    assert_eq!(lines[1], format!("{pid} {pid}"), "a group and a session of its own");
    assert_eq!(lines[2], "4", "only 0, 1, 2 and the directory being listed");
    assert_eq!(lines[3], "SigBlk:\t0000000000000000");
    assert_eq!(lines[4], "SigIgn:\t0000000000000000");
    assert_eq!(lines[5], String::from_utf8_lossy(&own.stdout).trim());
}

#[test]
fn refuses_with_distinct_codes() {
    let agent = Agent::start();
    let directory = agent.dir().display().to_string();
    for (message, code, text) in [
        (
            json!({"process": {"cmd": "no-such-program"}}),
            "not_found",
            "'no-such-program'",
        ),
        (json!({"process": {"cmd": "/no/such"}}), "not_found", "'/no/such'"),
        (
            json!({"process": {"cmd": directory}}),
            "permission_denied",
            "not executable",
        ),
        (
            json!({"process": {"cmd": "true", "cwd": "/no/where"}}),
            "invalid_argument",
            "cwd '/no/where' does not exist",
        ),
        (
            json!({"process": {"cmd": "true", "cwd": "/bin/sh"}}),
            "invalid_argument",
            "is not a directory",
        ),
        (json!({"process": {"cmd": ""}}), "invalid_argument", "empty"),
        (json!({"process": {"cmd": "a\u{0}b"}}), "invalid_argument", "NUL"),
        (
            json!({"process": {"cmd": "true", "envs": {"A=B": "c"}}}),
            "invalid_argument",
            "'A=B'",
        ),
        (json!({}), "invalid_argument", "no process"),
        (json!({"process": 7}), "invalid_argument", "JSON"),
    ] {
        let (got, message_text) = refusal(&agent, "Start", &message, &[]);
        assert_eq!(got, code, "{message} {message_text}");
        assert!(message_text.contains(text), "{message_text}");
    }
    // base64 of "nobody-here:"
    let bad_user = [("Authorization", "Basic bm9ib2R5LWhlcmU6")];
    let (code, text) = refusal(&agent, "Start", &shell("true"), &bad_user);
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("unauthenticated", "invalid username: 'nobody-here'")
    );
    assert_eq!(call(&agent, "List", &json!({})).1, json!({"processes": []}));
}

#[test]
fn becomes_the_user_of_the_request() {
    if !is_root() {
        return;
    }
    let agent = Agent::start();
    let message = shell("id -u; id -g; pwd; echo $HOME $USER $LOGNAME; echo $E2B_SANDBOX");
    // Nobody's home does not exist, so the default working directory falls back to the root.
    let mut stream = Stream::open_as("nobody", &agent, "Start", &message, &[]);
    stream.start();
    let (out, _, _) = stream.finish();
    assert_eq!(out, "65534\n65534\n/\n/nonexistent nobody nobody\n\n");
}

#[test]
fn request_variables_win_and_relative_directories_start_at_home() {
    let agent = Agent::start();
    let init = json!({"envVars": {"A": "sandbox", "B": "sandbox"}, "sandboxId": "s1"});
    assert_eq!(
        agent.send("POST", "/init", &[], init.to_string().as_bytes()).status,
        204
    );
    let message = json!({"process": {
        "cmd": "sh",
        "args": ["-c", "echo $A $B $E2B_SANDBOX $E2B_SANDBOX_ID $ATOLL_SANDBOX_ID; pwd; cd; pwd"],
        "envs": {"B": "request", "E2B_SANDBOX_ID": "forged"},
        "cwd": "~",
    }, "tag": null, "pty": null, "stdin": false, "unknown": [1]});
    let mut stream = Stream::open(&agent, "Start", &message, &[]);
    stream.start();
    let (out, _, _) = stream.finish();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "sandbox request true s1 s1");
    assert_eq!(lines[1], lines[2]);
}

#[test]
fn lists_what_runs() {
    let agent = Agent::start();
    let message = json!({"process": {"cmd": "cat", "envs": {"K": "v"}, "cwd": "/"}, "tag": "mine"});
    let mut stream = Stream::open(&agent, "Start", &message, &[]);
    let pid = stream.start();
    let (_, list) = call(&agent, "List", &json!({}));
    let config = json!({"cmd": "cat", "args": [], "envs": {"K": "v"}, "cwd": "/"});
    assert_eq!(
        list,
        json!({"processes": [{"config": config, "pid": pid, "tag": "mine"}]})
    );
    assert_eq!(
        call(&agent, "CloseStdin", &json!({"process": {"tag": "mine"}})),
        (200, json!({}))
    );
    stream.finish();
    assert_eq!(call(&agent, "List", &json!({})).1, json!({"processes": []}));
}
