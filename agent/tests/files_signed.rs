//! Who may read and write files of a secured agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use harness::{Agent, user};
use sha2::{Digest, Sha256};

const TOKEN: &str = "a-token";

fn secured() -> Agent {
    let agent = Agent::start();
    let body = format!("{{\"accessToken\":\"{TOKEN}\"}}");
    let reply = agent.send(
        "POST",
        "/init",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(reply.status, 204);
    agent
}

/// A signed `/files` query as the published clients make it.
fn signed(path: &str, operation: &str, user: &str, expiration_s: Option<u64>) -> String {
    let mut text = format!("{path}:{operation}:{user}:{TOKEN}");
    let mut query = format!("/files?path={path}");
    if !user.is_empty() {
        query += &format!("&username={user}");
    }
    if let Some(seconds) = expiration_s {
        text += &format!(":{seconds}");
        query += &format!("&signature_expiration={seconds}");
    }
    let signature = STANDARD_NO_PAD.encode(Sha256::digest(text));
    format!("{query}&signature=v1_{}", signature.replace('+', "%2B"))
}

#[test]
fn tokens_and_signatures_open_files() {
    let agent = secured();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let path = agent.at("f").to_string_lossy().into_owned();
    for expiration_s in [None, Some(now_s + 100)] {
        let target = signed(&path, "write", &user(), expiration_s);
        assert_eq!(agent.upload(&target, b"content").status, 200);
        let reply = agent.get(&signed(&path, "read", &user(), expiration_s));
        assert_eq!((reply.status, &reply.body[..]), (200, &b"content"[..]));
    }
    let target = agent.files("f", "");
    let reply = agent.send("GET", &target, &[("X-Access-Token", TOKEN)], b"");
    assert_eq!(reply.status, 200);
}

#[test]
fn everything_else_is_refused_in_the_known_words() {
    let agent = secured();
    let path = agent.at("f").to_string_lossy().into_owned();
    std::fs::write(&path, b"secret").unwrap();
    let read = signed(&path, "read", &user(), None);
    let none: &[(&str, &str)] = &[];
    for (method, target, headers, text) in [
        ("GET", agent.files("f", ""), none, "missing signature query parameter"),
        (
            "GET",
            signed(&path, "read", &user(), Some(1)),
            none,
            "signature is already expired",
        ),
        ("GET", signed(&path, "write", &user(), None), none, "invalid signature"),
        ("POST", read.clone(), none, "invalid signature"),
        ("GET", read.replace("v1_", "v2_"), none, "invalid signature"),
        (
            "GET",
            read.clone() + "&signature_expiration=99999999999",
            none,
            "invalid signature",
        ),
        (
            "GET",
            read.clone(),
            &[("X-Access-Token", "wrong")],
            "access token present in header but does not match",
        ),
        (
            "POST",
            "/files/compose".to_owned(),
            none,
            "unauthorized access, please provide a valid access token or method signing if supported",
        ),
        (
            "POST",
            "/filesystem.Filesystem/Stat".to_owned(),
            none,
            "unauthorized access, please provide a valid access token or method signing if supported",
        ),
    ] {
        let reply = agent.send(method, &target, headers, b"");
        assert_eq!(reply.status, 401, "{method} {target}");
        assert_eq!(reply.json(), serde_json::json!({"code": 401, "message": text}));
    }
    let reply = agent.upload(&agent.files("f", ""), &vec![0; 500_000]);
    assert_eq!(reply.status, 401, "the refusal of an upload can be read");
    assert_eq!(std::fs::read(&path).unwrap(), b"secret");
}
