use std::io::Write;

use serde_json::json;

use crate::harness::{Agent, Reply};
use crate::stream::{Stream, base64, call, end_error, envelope};

fn cat(agent: &Agent) -> (Stream, u64) {
    let mut stream = Stream::open(agent, "Start", &json!({"process": {"cmd": "cat"}, "stdin": true}), &[]);
    let pid = stream.start();
    (stream, pid)
}

#[test]
fn writes_and_closes_standard_input() {
    let agent = Agent::start();
    let (mut stream, pid) = cat(&agent);
    let send = |text: &str| json!({"process": {"pid": pid}, "input": {"stdin": base64(text.as_bytes())}});
    assert_eq!(call(&agent, "SendInput", &send("one\n")), (200, json!({})));
    assert_eq!(stream.until("one\n"), "one\n");
    assert_eq!(call(&agent, "SendInput", &send("two")), (200, json!({})));
    let close = json!({"process": {"pid": pid}});
    assert_eq!(call(&agent, "CloseStdin", &close).0, 200);
    // Closing twice is fine; the process may have ended of the first by now.
    assert!(matches!(call(&agent, "CloseStdin", &close).0, 200 | 404));
    let (status, error) = call(&agent, "SendInput", &send("late"));
    assert!(matches!(
        (status, error["code"].as_str()),
        (500, Some("internal")) | (404, Some("not_found"))
    ));
    assert_eq!(stream.finish().0, "two");
}

#[test]
fn refuses_input_that_has_nowhere_to_go() {
    let agent = Agent::start();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &json!({"process": {"cmd": "sleep", "args": ["1000"]}, "tag": "t", "stdin": false}),
        &[],
    );
    stream.start();
    for (input, status, code) in [
        (json!({"stdin": ""}), 500, "internal"),
        (json!({"pty": "YQ=="}), 500, "internal"),
        (json!({}), 400, "invalid_argument"),
        (json!({"stdin": "", "pty": ""}), 400, "invalid_argument"),
        (json!({"stdin": "%"}), 400, "invalid_argument"),
    ] {
        let (got, error) = call(&agent, "SendInput", &json!({"process": {"tag": "t"}, "input": input}));
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{input}");
    }
    let (status, error) = call(
        &agent,
        "Update",
        &json!({"process": {"tag": "t"}, "pty": {"size": {"cols": 1, "rows": 1}}}),
    );
    assert_eq!((status, error["code"].as_str()), (500, Some("internal")));
    for selector in [json!({}), json!({"pid": 1, "tag": "t"}), json!(null)] {
        let (status, error) = call(
            &agent,
            "SendInput",
            &json!({"process": selector, "input": {"stdin": ""}}),
        );
        assert_eq!(
            (status, error["code"].as_str()),
            (400, Some("invalid_argument")),
            "{selector}"
        );
    }
}

#[test]
fn streams_input_in_order() {
    let agent = Agent::start();
    let (mut stream, pid) = cat(&agent);
    let mut body = envelope(json!({"start": {"process": {"pid": pid}}}).to_string().as_bytes());
    for number in 0..200 {
        let data = base64(format!("{number}\n").as_bytes());
        body.extend(envelope(
            json!({"data": {"input": {"stdin": data}}}).to_string().as_bytes(),
        ));
        body.extend(envelope(br#"{"keepalive":{}}"#));
    }
    let headers = [("Content-Type", "application/connect+json")];
    let reply = agent.send("POST", "/process.Process/StreamInput", &headers, &body);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, [&envelope(b"{}")[..], &[2, 0, 0, 0, 2], b"{}"].concat());
    call(&agent, "CloseStdin", &json!({"process": {"pid": pid}}));
    let expected: String = (0..200).map(|number| format!("{number}\n")).collect();
    assert_eq!(stream.finish().0, expected);
}

#[test]
fn refuses_bad_input_streams() {
    let agent = Agent::start();
    let data = envelope(br#"{"data":{"input":{"stdin":""}}}"#);
    for (body, code) in [
        (data.clone(), "invalid_argument"),
        (envelope(br#"{"start":{"process":{"pid":999999}}}"#), "not_found"),
        (envelope(b"{}"), "invalid_argument"),
        (envelope(b"not json"), "invalid_argument"),
        (data[..7].to_vec(), "invalid_argument"),
        (vec![1, 0, 0, 0, 0], "unimplemented"),
        (vec![0, 0xff, 0, 0, 0], "resource_exhausted"),
    ] {
        let headers = [("Content-Type", "application/connect+json")];
        let reply = agent.send("POST", "/process.Process/StreamInput", &headers, &body);
        assert_eq!(end_error(&reply).0, code, "{body:?}");
    }
}

#[test]
fn a_process_that_does_not_read_holds_up_only_its_writer() {
    let agent = Agent::start();
    let mut stream = Stream::open(
        &agent,
        "Start",
        &json!({"process": {"cmd": "sh", "args": ["-c", "head -c 1 >/dev/null; echo begun; read -r x; wc -c"]}}),
        &[],
    );
    let pid = stream.start();
    let big = json!({"process": {"pid": pid}, "input": {"stdin": base64(&vec![b'x'; 1_000_000])}}).to_string();
    let mut writer = agent.connect();
    let head = format!(
        "POST /process.Process/SendInput HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        big.len()
    );
    writer.write_all(head.as_bytes()).unwrap();
    writer.write_all(big.as_bytes()).unwrap();
    stream.until("begun\n");
    // Others are served meanwhile, and what is sent later comes later.
    assert_eq!(agent.get("/health").status, 204);
    let newline = json!({"process": {"pid": pid}, "input": {"stdin": base64(b"\n1234")}});
    assert_eq!(call(&agent, "SendInput", &newline), (200, json!({})));
    assert_eq!(Reply::read(writer).status, 200);
    call(&agent, "CloseStdin", &json!({"process": {"pid": pid}}));
    assert_eq!(stream.finish().0.trim(), "4");
}

#[test]
fn a_terminal_takes_input_and_sizes() {
    let agent = Agent::start();
    let message = json!({
        "process": {"cmd": "/bin/sh", "args": ["-i"], "envs": {"PS1": "$ ", "TERM": "dumb"}},
        "pty": {"size": {"cols": 90, "rows": 33}},
    });
    let mut stream = Stream::open(&agent, "Start", &message, &[]);
    let pid = stream.start();
    let line = |text: &str| {
        let input = json!({"process": {"pid": pid}, "input": {"pty": base64(text.as_bytes())}});
        assert_eq!(call(&agent, "SendInput", &input), (200, json!({})));
    };
    line("stty size; tty\n");
    let shown = stream.until("/dev/pts/");
    assert!(shown.contains("33 90"), "{shown}");
    let resize = json!({"process": {"pid": pid}, "pty": {"size": {"cols": 120, "rows": 40}}});
    assert_eq!(call(&agent, "Update", &resize), (200, json!({})));
    line("stty size\n");
    stream.until("40 120");
    assert_eq!(call(&agent, "CloseStdin", &json!({"process": {"pid": pid}})).0, 500);
    let stdin = json!({"process": {"pid": pid}, "input": {"stdin": ""}});
    assert_eq!(call(&agent, "SendInput", &stdin).0, 500);
    line("exit 3\n");
    let (_, _, end) = stream.finish();
    assert_eq!(end["exitCode"], 3);
}
