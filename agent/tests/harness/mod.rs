//! The running agent and a plain HTTP client, for tests of the file side.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than any answer may take on a busy machine; a hang fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Agent {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Agent {
    /// Starts the agent as the current user, with a directory of its own on the build's disk.
    pub fn start() -> Self {
        Self::start_as(&mut Command::new(env!("CARGO_BIN_EXE_atoll-agent")))
    }

    /// Starts the agent by a command that ends in running it.
    pub fn start_as(command: &mut Command) -> Self {
        // A free port is free until somebody takes it: one agent at a time looks for one.
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command
            .env("ATOLL_AGENT_PORT", port.to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut agent = Self { child, port, dir };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(agent.child.try_wait().unwrap().is_none(), "the agent ended at once");
            std::thread::yield_now();
        }
        agent
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `/files?path=<name in the directory>&<more>`
    pub fn files(&self, name: &str, more: &str) -> String {
        format!("/files?path={}&username={}{more}", self.at(name).display(), user())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request whole and reads its answer whole.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        Reply::read(stream)
    }

    pub fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], b"")
    }

    pub fn upload(&self, target: &str, body: &[u8]) -> Reply {
        self.send("POST", target, &[("Content-Type", "application/octet-stream")], body)
    }

    /// A unary call in JSON: status and answer.
    pub fn call(&self, method: &str, message: &Value) -> (u16, Value) {
        self.call_as(&user(), method, message)
    }

    pub fn call_as(&self, user: &str, method: &str, message: &Value) -> (u16, Value) {
        use base64::Engine as _;
        let user = base64::engine::general_purpose::STANDARD.encode(format!("{user}:"));
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", &format!("Basic {user}")),
        ];
        let target = format!("/filesystem.Filesystem/{method}");
        let reply = self.send("POST", &target, &headers, message.to_string().as_bytes());
        (reply.status, reply.json())
    }

    /// File descriptors the agent holds.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Process id of the one child of the started command, when that only leads to the agent.
    pub fn child_of(&self) -> u32 {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Asks the agent to end and waits until it has.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Resident memory of its own, without the program's file, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // What it started, orphans included, would go on without it. The test may have ended it, and then its number
        // can be another process's.
        if let Ok(None) = self.child.try_wait() {
            for pid in descendants(self.child.id()) {
                if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// The processes that come from `pid`, as `/proc` has them now.
fn descendants(pid: u32) -> Vec<u32> {
    let pairs: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name before the last parenthesis may hold anything; state and parent follow it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

impl Reply {
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "no answer: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Self {
            status,
            head,
            body: Vec::new(),
        };
        if reply.header("transfer-encoding").as_deref() == Some("chunked") {
            while let Some(chunk) = read_chunk(&mut reader) {
                reply.body.extend(chunk);
            }
        } else {
            reader.read_to_end(&mut reply.body).unwrap();
        }
        reply
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// One chunk of a chunked body; `None` for the last.
pub fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("chunk length {line:?}"));
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}

/// The name or number of the user running the tests.
pub fn user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
