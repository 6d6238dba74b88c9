use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::harness::{Agent, Reply};

#[test]
fn a_head_without_end_is_cut_off_in_size() {
    let agent = Agent::start();
    let mut stream = agent.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    let line = format!("X-Filler: {}\r\n", "y".repeat(1000));
    let mut written = 0;
    // The agent closes after 64 KiB, which shows as an error of a later write, or as the end of what is read.
    while written < 10_000_000 && stream.write_all(line.as_bytes()).is_ok() {
        written += line.len();
    }
    assert!(written < 10_000_000, "the agent reads on for ever");
    assert_eq!(agent.get("/health").status, 204);
}

#[test]
fn a_head_that_is_never_finished_is_cut_off_in_time() {
    let agent = Agent::start();
    let mut slow = agent.connect();
    let idle = agent.connect();
    slow.write_all(b"GET /health HT").unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    // Closed with or without a last word; an error counts as closed too.
    let _ = slow.read_to_end(&mut rest);
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    // A connection that has sent nothing may wait.
    let mut idle = idle;
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(Reply::read(idle).status, 204);
}

#[test]
fn nonsense_ends_its_connection_and_nothing_else() {
    let agent = Agent::start();
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /init HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /init HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /init HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = agent.connect();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{junk:?}: {text}");
    }
    assert_eq!(agent.get("/health").status, 204);
}

#[test]
fn large_bodies_of_unary_calls_are_refused() {
    let agent = Agent::start();
    let headers = [("Content-Type", "application/json")];
    let reply = agent.send(
        "POST",
        "/process.Process/List",
        &headers,
        &vec![b' '; 4 * 1024 * 1024 + 1],
    );
    assert_eq!(
        (reply.status, reply.json()["code"].as_str()),
        (429, Some("resource_exhausted"))
    );
    let deep = "[".repeat(100_000);
    let reply = agent.send("POST", "/process.Process/List", &headers, deep.as_bytes());
    assert_eq!(
        (reply.status, reply.json()["code"].as_str()),
        (400, Some("invalid_argument"))
    );
}

#[test]
fn many_connections_are_served_and_let_go() {
    let agent = Agent::start();
    agent.get("/health");
    let before = agent.open_files();
    let idle: Vec<_> = (0..400).map(|_| agent.connect()).collect();
    assert_eq!(agent.get("/health").status, 204);
    drop(idle);
    let began = Instant::now();
    while agent.open_files() > before {
        assert!(began.elapsed() < Duration::from_secs(30), "connections stay open");
        std::thread::sleep(Duration::from_millis(10));
    }
}
