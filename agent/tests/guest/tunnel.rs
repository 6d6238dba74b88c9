use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use serde_json::json;

use crate::harness::{Agent, Reply};

fn open(agent: &Agent, target: &str, headers: &str) -> TcpStream {
    let mut stream = agent.connect();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn accepted(stream: &mut TcpStream) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0].into());
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[test]
fn carries_bytes_both_ways_and_keeps_half_closed_sides() {
    let agent = Agent::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It answers only after its client has ended its side: without half-close neither would ever end.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut stream = open(&agent, &format!("127.0.0.1:{port}"), "");
    accepted(&mut stream);
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got.reverse();
    assert!(got == sent);
    server.join().unwrap();
}

#[test]
fn carries_what_was_sent_with_the_request() {
    let agent = Agent::start();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = open(&agent, &format!("localhost:{port}"), "");
    stream.write_all(b"early").unwrap();
    let (mut inner, _) = listener.accept().unwrap();
    accepted(&mut stream);
    let mut got = [0; 5];
    inner.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"early");
    drop(stream);
    assert_eq!(inner.read(&mut got).unwrap(), 0);
}

#[test]
fn refuses_closed_ports_and_other_hosts() {
    let agent = Agent::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reply = Reply::read(open(&agent, &format!("127.0.0.1:{port}"), "Connection: close\r\n"));
    assert_eq!(
        (reply.status, reply.json()),
        (502, json!({"code": 502, "message": "port is not open", "port": port}))
    );
    for target in ["10.0.0.1:80", "example.com:80", "169.254.169.254:80", "127.0.0.1:0"] {
        let reply = Reply::read(open(&agent, target, "Connection: close\r\n"));
        assert_eq!(reply.status, 400, "{target}");
    }
    assert_eq!(agent.send("POST", "/init", &[], br#"{"accessToken": "t"}"#).status, 204);
    let reply = Reply::read(open(&agent, &format!("127.0.0.1:{port}"), "Connection: close\r\n"));
    assert_eq!(reply.status, 401);
}
