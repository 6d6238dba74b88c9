//! Uploads and downloads against the running agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Agent, Reply};

const MIB: usize = 1024 * 1024;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn round_trips() {
    let agent = Agent::start();
    for length in [0, 1, 65_536, 65_537, 5 * MIB + 3] {
        let content = pattern(length);
        let reply = agent.upload(&agent.files("a/b/file.bin", ""), &content);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()[0]["name"], "file.bin");
        assert!(std::fs::read(agent.at("a/b/file.bin")).unwrap() == content, "{length}");
        let reply = agent.get(&agent.files("a/b/file.bin", ""));
        assert_eq!(reply.header("content-length"), Some(length.to_string()));
        assert!(reply.body == content, "{length}");
    }
}

#[test]
fn ranges_and_gzip() {
    let agent = Agent::start();
    let content = pattern(MIB);
    std::fs::write(agent.at("f"), &content).unwrap();
    let target = agent.files("f", "");
    for (range, want) in [
        ("bytes=5-9", &content[5..10]),
        ("bytes=-7", &content[MIB - 7..]),
        ("bytes=1000000-", &content[1_000_000..]),
    ] {
        let reply = agent.send("GET", &target, &[("Range", range)], b"");
        assert_eq!(reply.status, 206);
        assert!(reply.body == want, "{range}");
    }
    let reply = agent.send("GET", &target, &[("Range", "bytes=2000000-")], b"");
    assert_eq!((reply.status, reply.body.len()), (416, 0));
    let reply = agent.send("GET", &target, &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(reply.header("content-encoding").as_deref(), Some("gzip"));
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(&reply.body[..])
        .read_to_end(&mut decoded)
        .unwrap();
    assert!(decoded == content);
    let headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Encoding", "gzip"),
    ];
    let reply2 = agent.send("POST", &agent.files("g", ""), &headers, &reply.body);
    assert_eq!(reply2.status, 200);
    assert!(std::fs::read(agent.at("g")).unwrap() == content);
}

#[test]
fn chunked_uploads_are_taken() {
    let agent = Agent::start();
    let mut stream = agent.connect();
    let target = agent.files("f", "");
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/octet-stream\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    .unwrap();
    assert_eq!(Reply::read(stream).status, 200);
    assert_eq!(std::fs::read(agent.at("f")).unwrap(), b"abcde");
}

#[test]
fn odd_files() {
    let agent = Agent::start();
    let reply = agent.get("/files?path=/proc/self/status&username=0");
    assert!(String::from_utf8(reply.body).unwrap().contains("atoll-agent"));
    let fifo = agent.at("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for target in [
        agent.files("fifo", ""),
        format!("/files?path=/dev/zero&username={}", harness::user()),
    ] {
        assert_eq!(agent.get(&target).status, 400, "{target}");
        assert_eq!(agent.upload(&target, b"x").status, 400, "{target}");
    }
}

#[test]
fn refusals_in_the_api_s_form() {
    let agent = Agent::start();
    let long = "n".repeat(5000);
    for (target, status, text) in [
        (agent.files("missing", ""), 404, "does not exist"),
        (agent.files("", ""), 400, "is a directory"),
        (
            "/files?path=/x&username=nosuchuser".to_owned(),
            401,
            "invalid username: 'nosuchuser'",
        ),
        (agent.files("a%00b", ""), 400, "NUL"),
        (agent.files("a%0Ab", ""), 400, "line break"),
        (agent.files(&long, ""), 400, "the limit is 4095"),
        (agent.files("%ff", ""), 400, "not UTF-8"),
        ("/files?path=/../x&username=0".to_owned(), 400, "climbs above"),
    ] {
        let reply = agent.get(&target);
        assert_eq!(reply.status, status, "{target}");
        assert_eq!(reply.json()["code"], status);
        assert!(reply.message().contains(text), "{}", reply.message());
    }
    let reply = agent.send("PUT", &agent.files("f", ""), &[], b"x");
    assert_eq!(reply.status, 405);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let agent = Agent::start();
    agent.upload(&agent.files("cut", ""), b"");
    let open_before = agent.open_files();
    for round in 0..30 {
        let mut stream = agent.connect();
        let target = agent.files("cut", "");
        write!(
            stream,
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&vec![b'x'; round * 5000]).unwrap();
        if round % 2 == 0 {
            stream.shutdown(Shutdown::Both).unwrap();
        }
    }
    // Connections and files are closed again, which a request with a 10 s head time-out would not do.
    let began = Instant::now();
    while agent.open_files() > open_before {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{} files are open",
            agent.open_files()
        );
        std::thread::yield_now();
    }
    // What arrived of an upload that was cut off stays.
    assert!(std::fs::metadata(agent.at("cut")).unwrap().len() < 1_000_000);
    assert_eq!(agent.upload(&agent.files("after", ""), b"whole").status, 200);
}

#[test]
fn stalled_clients_do_not_hold_up_others() {
    let agent = Agent::start();
    std::fs::write(agent.at("large"), vec![0; 20 * MIB]).unwrap();
    let mut stalled = Vec::new();
    for index in 0..24 {
        let mut stream = agent.connect();
        let target = agent.files(if index % 2 == 0 { "large" } else { "up" }, "");
        if index % 2 == 0 {
            write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        } else {
            write!(
                stream,
                "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\
                 Content-Type: application/octet-stream\r\n\r\nsome"
            )
            .unwrap();
        }
        stalled.push(stream);
    }
    let began = Instant::now();
    assert_eq!(agent.upload(&agent.files("quick", ""), b"x").status, 200);
    assert_eq!(agent.get(&agent.files("quick", "")).body, b"x");
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(stalled);
}

#[test]
fn large_files_pass_through_little_memory() {
    const TOTAL_MIB: u64 = 256;
    let agent = Agent::start();
    agent.upload(&agent.files("warm", ""), b"x");
    let before_kib = agent.resident_kib();
    let mut stream = agent.connect();
    let target = agent.files("large", "");
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/octet-stream\r\n\r\n",
        TOTAL_MIB << 20
    )
    .unwrap();
    let block = pattern(MIB);
    let mut most_kib = 0;
    for _ in 0..TOTAL_MIB {
        stream.write_all(&block).unwrap();
        most_kib = most_kib.max(agent.resident_kib());
    }
    assert_eq!(Reply::read(stream).status, 200);
    assert_eq!(std::fs::metadata(agent.at("large")).unwrap().len(), TOTAL_MIB << 20);

    let mut stream = agent.connect();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut buffer = vec![0; MIB];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        received += count as u64;
        most_kib = most_kib.max(agent.resident_kib());
    }
    assert!(received > TOTAL_MIB << 20);
    let grown_kib = most_kib.saturating_sub(before_kib);
    assert!(grown_kib < 4096, "grew by {grown_kib} KiB");
}

#[test]
fn a_full_disk_is_told_and_the_client_gets_to_read_it() {
    // A mount namespace of its own gives the agent a file system that is soon full.
    let mut command = Command::new("unshare");
    command.arg(if harness::is_root() { "-m" } else { "-rm" }).args([
        "sh",
        "-c",
        "mount -t tmpfs -o size=1m tmpfs /mnt && exec \"$0\"",
        env!("CARGO_BIN_EXE_atoll-agent"),
    ]);
    let agent = Agent::start_as(&mut command);
    let target = "/files?path=/mnt/f&username=0";
    let reply = agent.upload(target, &pattern(8 * MIB));
    assert_eq!(reply.status, 507);
    assert_eq!(
        reply.message(),
        "attempted to write 8388608 bytes: not enough disk space available"
    );
    assert_eq!(agent.upload(target, b"fits").status, 200);
}
