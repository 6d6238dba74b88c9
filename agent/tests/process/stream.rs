//! A client of the process service.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Agent, Reply, read_chunk, user};

/// A stream being read.
pub struct Stream {
    reader: BufReader<TcpStream>,
    pending: Vec<u8>,
    pub head: String,
    pub received: u64,
}

/// An envelope: its flag and message.
pub type Frame = (u8, Value);

impl Stream {
    pub fn open(agent: &Agent, method: &str, message: &Value, headers: &[(&str, &str)]) -> Self {
        Self::open_as(&user(), agent, method, message, headers)
    }

    pub fn open_as(user: &str, agent: &Agent, method: &str, message: &Value, headers: &[(&str, &str)]) -> Self {
        let body = envelope(message.to_string().as_bytes());
        let mut head = format!(
            "POST /process.Process/{method} HTTP/1.1\r\nHost: agent\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/connect+json\r\nContent-Length: {}\r\n",
            STANDARD.encode(format!("{user}:")),
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = agent.connect();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            head.push(byte[0].into());
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Self {
            reader,
            pending: Vec::new(),
            head: head.to_ascii_lowercase(),
            received: 0,
        }
    }

    /// Starts `sh -c script` and reads the start event.
    pub fn shell(agent: &Agent, script: &str) -> (Self, u64) {
        let mut stream = Self::open(agent, "Start", &shell(script), &[]);
        let pid = stream.start();
        (stream, pid)
    }

    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.pending.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.pending.len() >= 5 + length {
                    let rest = self.pending.split_off(5 + length);
                    let frame = std::mem::replace(&mut self.pending, rest);
                    return Some((frame[0], serde_json::from_slice(&frame[5..]).unwrap()));
                }
            }
            match read_chunk(&mut self.reader) {
                Some(chunk) => self.pending.extend(chunk),
                // A body that was known whole has no chunks; a streamed one ends here.
                None => return None,
            }
        }
    }

    /// The next event's name and content.
    pub fn event(&mut self) -> (String, Value) {
        let (flag, message) = self.frame().expect("the stream ended");
        assert_eq!(flag, 0, "{message}");
        let (name, content) = message["event"].as_object().unwrap().iter().next().unwrap();
        (name.clone(), content.clone())
    }

    pub fn start(&mut self) -> u64 {
        let (name, start) = self.event();
        assert_eq!(name, "start", "{start}");
        start["pid"].as_u64().unwrap()
    }

    /// The next output: where it came from, and the bytes.
    pub fn data(&mut self) -> (String, Vec<u8>) {
        let (name, data) = self.event();
        assert_eq!(name, "data", "{data}");
        let (source, bytes) = data.as_object().unwrap().iter().next().unwrap();
        let bytes = STANDARD.decode(bytes.as_str().unwrap()).unwrap();
        self.received += bytes.len() as u64;
        (source.clone(), bytes)
    }

    /// Reads output until it holds `text`.
    pub fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            all += &String::from_utf8_lossy(&self.data().1);
        }
        all
    }

    /// Everything to the end: standard output or terminal, standard error, end event.
    pub fn finish(&mut self) -> (String, String, Value) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let (name, content) = self.event();
            match name.as_str() {
                "end" => {
                    assert_eq!(self.frame(), Some((2, json!({}))));
                    assert_eq!(self.frame(), None);
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    return (text(out), text(err), content);
                }
                "keepalive" => {}
                _ => {
                    let (source, bytes) = content.as_object().unwrap().iter().next().unwrap();
                    let bytes = STANDARD.decode(bytes.as_str().unwrap()).unwrap();
                    self.received += bytes.len() as u64;
                    if source == "stderr" { &mut err } else { &mut out }.extend(bytes);
                }
            }
        }
    }

    /// The error in the end frame, which must be the next frame.
    pub fn error(&mut self) -> (String, String) {
        let (flag, message) = self.frame().expect("the stream ended");
        assert_eq!(flag, 2, "{message}");
        let error = &message["error"];
        (
            error["code"].as_str().unwrap_or_default().to_owned(),
            error["message"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

/// A whole stream whose answer is one end frame with an error, sent with its length known.
pub fn refusal(agent: &Agent, method: &str, message: &Value, headers: &[(&str, &str)]) -> (String, String) {
    let mut all = vec![("Content-Type", "application/connect+json")];
    all.extend(headers);
    let body = envelope(message.to_string().as_bytes());
    let reply = agent.send("POST", &format!("/process.Process/{method}"), &all, &body);
    end_error(&reply)
}

/// The error of an answer that is one end frame.
pub fn end_error(reply: &Reply) -> (String, String) {
    assert_eq!((reply.status, reply.body[0]), (200, 2));
    let end: Value = serde_json::from_slice(&reply.body[5..]).unwrap();
    let text = |name: &str| end["error"][name].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

/// A unary call: status and answer.
pub fn call(agent: &Agent, method: &str, message: &Value) -> (u16, Value) {
    let target = if method.contains('/') {
        format!("/{method}")
    } else {
        format!("/process.Process/{method}")
    };
    let headers = [("Content-Type", "application/json")];
    let reply = agent.send("POST", &target, &headers, message.to_string().as_bytes());
    (reply.status, reply.json())
}

pub fn shell(script: &str) -> Value {
    json!({"process": {"cmd": "/bin/sh", "args": ["-c", script]}, "stdin": false})
}

pub fn envelope(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend(message);
    out
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
