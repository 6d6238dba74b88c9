//! `filesystem.Filesystem` against the running agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use harness::{Agent, is_root, read_chunk, user};
use serde_json::{Value, json};

/// Entry paths relative to the agent's directory.
fn listed(agent: &Agent, answer: &Value) -> Vec<String> {
    let prefix = format!("{}/", agent.dir().display());
    answer["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["path"].as_str().unwrap().replacen(&prefix, "", 1))
        .collect()
}

#[test]
fn a_day_in_a_directory() {
    let agent = Agent::start();
    let at = |name: &str| agent.at(name).to_string_lossy().into_owned();
    let (status, answer) = agent.call("MakeDir", &json!({"path": at("a/b")}));
    assert_eq!((status, &answer["entry"]["type"]), (200, &json!("FILE_TYPE_DIRECTORY")));
    agent.upload(&agent.files("a/b/f.txt", ""), b"hello");
    let (status, answer) = agent.call("Stat", &json!({"path": at("a/b/f.txt")}));
    assert_eq!(status, 200);
    let entry = &answer["entry"];
    assert_eq!(entry["size"], "5");
    assert_eq!(entry["permissions"], "-rw-r--r--");
    assert_eq!(entry["mode"], 0o644);
    assert!(entry["modifiedTime"].as_str().unwrap().ends_with('Z'));
    let (_, answer) = agent.call(
        "Move",
        &json!({"source": at("a/b/f.txt"), "destination": at("c/g.txt")}),
    );
    assert_eq!(answer["entry"]["path"], at("c/g.txt"));
    let (_, answer) = agent.call("ListDir", &json!({"path": at(""), "depth": 2}));
    assert_eq!(listed(&agent, &answer), ["a", "a/b", "c", "c/g.txt"]);
    for name in ["a", "c", "c", "never"] {
        assert_eq!(agent.call("Remove", &json!({"path": at(name)})), (200, json!({})));
    }
    let (_, answer) = agent.call("ListDir", &json!({"path": at("")}));
    assert_eq!(answer, json!({"entries": []}));
}

#[test]
fn refusals() {
    let agent = Agent::start();
    let at = |name: &str| agent.at(name).to_string_lossy().into_owned();
    std::fs::write(at("file"), b"").unwrap();
    std::fs::create_dir_all(at("dir/sub")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let long = at(&"n/".repeat(2100));
    for (method, message, status, code) in [
        ("Stat", json!({"path": at("missing")}), 404, "not_found"),
        ("Stat", json!({"path": at("file/below")}), 404, "not_found"),
        ("Stat", json!({"path": "a\u{0}b"}), 400, "invalid_argument"),
        ("Stat", json!({"path": "a\nb"}), 400, "invalid_argument"),
        ("Stat", json!({"path": "~other/x"}), 400, "invalid_argument"),
        ("Stat", json!({"path": "/../etc"}), 400, "invalid_argument"),
        ("Stat", json!({"path": long}), 400, "invalid_argument"),
        ("Stat", json!({"path": 7}), 400, "invalid_argument"),
        ("MakeDir", json!({"path": at("dir")}), 409, "already_exists"),
        ("MakeDir", json!({"path": at("file")}), 400, "invalid_argument"),
        ("MakeDir", json!({"path": at("file/x")}), 400, "invalid_argument"),
        ("ListDir", json!({"path": at("missing")}), 404, "not_found"),
        ("ListDir", json!({"path": at("file")}), 400, "invalid_argument"),
        ("ListDir", json!({"path": at("loop")}), 400, "failed_precondition"),
        (
            "Move",
            json!({"source": at("missing"), "destination": at("x")}),
            404,
            "not_found",
        ),
        (
            "Move",
            json!({"source": at("dir"), "destination": at("dir/sub/x")}),
            400,
            "invalid_argument",
        ),
        ("Remove", json!({"path": "/"}), 400, "invalid_argument"),
        ("CreateWatcher", json!({"path": at("missing")}), 404, "not_found"),
        ("CreateWatcher", json!({"path": at("file")}), 400, "invalid_argument"),
        ("GetWatcherEvents", json!({"watcherId": "w0"}), 404, "not_found"),
        ("RemoveWatcher", json!({}), 404, "not_found"),
    ] {
        let (got, answer) = agent.call(method, &message);
        assert_eq!(
            (got, answer["code"].as_str()),
            (status, Some(code)),
            "{method} {message}: {answer}"
        );
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(agent.call("Nonsense", &json!({})).0, 404);
    let (status, answer) = agent.call_as("nosuchuser", "Stat", &json!({"path": "/"}));
    assert_eq!((status, answer["code"].as_str()), (401, Some("unauthenticated")));
    assert_eq!(answer["message"], "invalid username: 'nosuchuser'");
}

#[test]
fn what_is_made_belongs_to_the_requesting_user() {
    if !is_root() {
        eprintln!("needs root to act for another user");
        return;
    }
    let agent = Agent::start();
    let at = |name: &str| agent.at(name).to_string_lossy().into_owned();
    let (status, _) = agent.call_as("12345", "MakeDir", &json!({"path": at("d/e")}));
    assert_eq!(status, 200);
    std::fs::write(at("old"), b"").unwrap();
    for name in ["u/v/file", "old"] {
        let target = format!("/files?path={}&username=12345", at(name));
        assert_eq!(agent.upload(&target, b"x").status, 200);
    }
    agent.call_as(
        "12345",
        "Move",
        &json!({"source": at("u/v/file"), "destination": at("m/n/file")}),
    );
    for name in ["d", "d/e", "u", "u/v", "m", "m/n", "m/n/file", "old"] {
        let found = std::fs::metadata(at(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (12345, 12345), "{name}");
    }
    assert_eq!(std::fs::metadata(agent.dir()).unwrap().uid(), 0);
}

#[test]
fn relative_paths_start_at_home() {
    let agent = Agent::start();
    let (_, home) = agent.call("Stat", &json!({"path": "~"}));
    for path in ["", ".", "~/", "x/.."] {
        let (status, answer) = agent.call("Stat", &json!({"path": path}));
        assert_eq!(
            (status, &answer["entry"]["path"]),
            (200, &home["entry"]["path"]),
            "{path:?}"
        );
    }
}

#[test]
fn metadata_shows_in_stat() {
    let agent = Agent::start();
    let headers = [
        ("Content-Type", "application/octet-stream"),
        ("X-Metadata-Purpose", "test"),
    ];
    let reply = agent.send("POST", &agent.files("f", ""), &headers, b"x");
    assert_eq!(reply.json()[0]["metadata"], json!({"purpose": "test"}));
    let (_, answer) = agent.call("Stat", &json!({"path": agent.at("f")}));
    assert_eq!(answer["entry"]["metadata"], json!({"purpose": "test"}));
}

#[test]
fn polling_watchers() {
    let agent = Agent::start();
    let message = json!({"path": agent.dir(), "recursive": true, "includeEntry": true});
    let (status, watcher) = agent.call("CreateWatcher", &message);
    assert_eq!(status, 200);
    std::fs::create_dir_all(agent.at("new/deep")).unwrap();
    std::fs::write(agent.at("new/deep/f"), b"abc").unwrap();
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|event: &Value| event["name"] == "new/deep/f" && event["type"] == "EVENT_TYPE_WRITE")
    {
        let (status, answer) = agent.call("GetWatcherEvents", &watcher);
        assert_eq!(status, 200);
        events.extend(answer["events"].as_array().unwrap().clone());
    }
    assert_eq!(events[0]["name"], "new");
    assert_eq!(events[0]["entry"]["type"], "FILE_TYPE_DIRECTORY");
    assert_eq!(agent.call("RemoveWatcher", &watcher).0, 200);
    assert_eq!(agent.call("GetWatcherEvents", &watcher).0, 404);
}

#[test]
fn watch_streams() {
    let agent = Agent::start();
    let message = json!({"path": agent.dir()}).to_string();
    let mut stream = agent.connect();
    write!(
        stream,
        "POST /filesystem.Filesystem/WatchDir HTTP/1.1\r\nHost: a\r\nContent-Type: application/connect+json\r\n\
         Authorization: Basic MDo=\r\nContent-Length: {}\r\n\r\n",
        message.len() + 5
    )
    .unwrap();
    stream.write_all(&[0, 0, 0, 0]).unwrap();
    stream.write_all(&[u8::try_from(message.len()).unwrap()]).unwrap();
    stream.write_all(message.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut next = || -> Value { serde_json::from_slice(&read_chunk(&mut reader).unwrap()[5..]).unwrap() };
    assert_eq!(next(), json!({"start": {}}));
    std::fs::write(agent.at("f"), b"").unwrap();
    assert_eq!(
        next(),
        json!({"filesystem": {"name": "f", "type": "EVENT_TYPE_CREATE"}})
    );
    std::fs::rename(agent.at("f"), agent.at("g")).unwrap();
    assert_eq!(
        next(),
        json!({"filesystem": {"name": "f", "type": "EVENT_TYPE_RENAME"}})
    );
    assert_eq!(
        next(),
        json!({"filesystem": {"name": "g", "type": "EVENT_TYPE_CREATE"}})
    );
}

#[test]
fn compose_joins_uploaded_parts() {
    let agent = Agent::start();
    for (name, content) in [("p0", "one"), ("p1", "two")] {
        agent.upload(&agent.files(name, ""), content.as_bytes());
    }
    let message = json!({
        "source_paths": [agent.at("p0"), agent.at("p1")],
        "destination": agent.at("sub/whole"),
        "username": user(),
    });
    let headers = [("Content-Type", "application/json")];
    let reply = agent.send("POST", "/files/compose", &headers, message.to_string().as_bytes());
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["name"], "whole");
    assert_eq!(std::fs::read(agent.at("sub/whole")).unwrap(), b"onetwo");
    let reply = agent.send("POST", "/files/compose", &headers, b"{not json");
    assert_eq!(reply.status, 400);
}
