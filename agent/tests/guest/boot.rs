use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Agent, is_root};

#[test]
fn as_pid_1_it_adds_what_is_missing_and_ends_everything() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir_all(root.join("dev")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_atoll-agent"), root.join("agent")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--mount", "--uts", "--fork", "--kill-child", "chroot"])
        .arg(&root)
        .arg("/agent");
    let agent = Agent::start_as(&mut command);
    let init = json!({"hostname": "islet", "sandboxId": "s9", "timestamp": "not a time"});
    assert_eq!(
        agent.send("POST", "/init", &[], init.to_string().as_bytes()).status,
        204
    );
    assert_eq!(agent.get("/atoll/v1/info").json()["pid"], 1);
    let pid = agent.child_of();
    let seen = format!("/proc/{pid}/root");
    for path in [
        "proc/version",
        "dev/null",
        "dev/pts/ptmx",
        "dev/shm",
        "tmp",
        "run/e2b/.E2B_SANDBOX_ID",
    ] {
        assert!(std::fs::symlink_metadata(format!("{seen}/{path}")).is_ok(), "{path}");
    }
    let hostname = Command::new("nsenter")
        .args(["--uts", "--target", &pid.to_string(), "hostname"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&hostname.stdout).trim(), "islet");
}

#[test]
fn sigterm_asks_first_then_kills_and_ends_well() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let asked = directory.path().join("asked");
    let mut agent = Agent::start_as(Command::new(env!("CARGO_BIN_EXE_atoll-agent")).stdin(Stdio::null()));
    let script = format!(
        "trap 'echo yes > {}' TERM; echo ready; while :; do sleep 0.05; done",
        asked.display()
    );
    let message = json!({"process": {"cmd": "sh", "args": ["-c", script]}, "stdin": false}).to_string();
    let mut envelope = vec![0];
    envelope.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    envelope.extend(message.as_bytes());
    let mut reader = agent.connect();
    let head = format!(
        "POST /process.Process/Start HTTP/1.1\r\nHost: a\r\nContent-Type: application/connect+json\r\nContent-Length: {}\r\n\r\n",
        envelope.len()
    );
    std::io::Write::write_all(&mut reader, head.as_bytes()).unwrap();
    std::io::Write::write_all(&mut reader, &envelope).unwrap();
    let mut got = Vec::new();
    // base64 of "ready\n"
    while !String::from_utf8_lossy(&got).contains("cmVhZHkK") {
        let mut part = [0; 256];
        let count = std::io::Read::read(&mut reader, &mut part).unwrap();
        assert!(count > 0);
        got.extend(&part[..count]);
    }
    let began = Instant::now();
    let status = agent.terminate();
    assert!(status.success(), "{status}");
    assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&began.elapsed()));
    assert_eq!(std::fs::read_to_string(asked).unwrap(), "yes\n");
}
