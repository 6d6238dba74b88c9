use std::time::Duration;

use serde_json::json;

use crate::harness::Agent;

/// How often the agent's threads have given up or lost the processor.
fn switches(agent: &Agent) -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        total += status
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
            .sum::<u64>();
    }
    total
}

#[test]
fn nothing_to_do_is_no_wake_up_and_little_memory() {
    let agent = Agent::start();
    // Open connections, one of which has been used, one running process with a reader.
    let idle: Vec<_> = (0..5).map(|_| agent.connect()).collect();
    let message = json!({"process": {"cmd": "sleep", "args": ["1000"]}, "stdin": false}).to_string();
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
    std::io::Read::read_exact(&mut reader, &mut [0; 100]).unwrap();
    for _ in 0..20 {
        assert_eq!(agent.get("/health").status, 204);
    }
    // What the last answer left to do is done within this; file threads, if any, have ended.
    std::thread::sleep(Duration::from_millis(2500));
    let before = switches(&agent);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(switches(&agent) - before, 0);
    drop((idle, reader));
    assert!(agent.anonymous_kib() < 1024, "{} KiB", agent.anonymous_kib());
}
