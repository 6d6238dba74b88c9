use serde_json::json;

use crate::harness::Agent;

#[test]
fn health_metrics_and_information() {
    let agent = Agent::start();
    let health = agent.get("/health");
    assert_eq!((health.status, health.body.len()), (204, 0));
    assert_eq!(health.header("access-control-allow-origin").as_deref(), Some("*"));
    let metrics = agent.get("/metrics").json();
    for name in [
        "ts",
        "cpu_count",
        "mem_total",
        "mem_used",
        "mem_total_mib",
        "mem_used_mib",
        "disk_used",
        "disk_total",
    ] {
        assert!(metrics[name].as_u64().unwrap() > 0, "{name}: {metrics}");
    }
    assert!(metrics["mem_cache"].is_u64());
    let percent = metrics["cpu_used_pct"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent), "{percent}");
    assert!(metrics["mem_used"].as_u64() < metrics["mem_total"].as_u64());
    let info = agent.get("/atoll/v1/info").json();
    assert_eq!(
        (&info["generation"], &info["envdVersion"]),
        (&json!(1), &json!("0.6.13"))
    );
    assert_eq!(info["pid"].as_u64(), Some(u64::from(agent.id())));
    assert!(info["rssKib"].as_u64().unwrap() > 0);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(info["bootId"], boot.trim());
}

#[test]
fn wrong_paths_and_methods_are_told_in_json() {
    let agent = Agent::start();
    for (method, path, headers, status) in [
        ("GET", "/", vec![], 404),
        ("GET", "/nothing/here", vec![], 404),
        (
            "POST",
            "/process.Process/Nothing",
            vec![("Content-Type", "application/json")],
            404,
        ),
        ("GET", "/process.Process/List", vec![], 405),
        (
            "POST",
            "/process.Process/List",
            vec![("Content-Type", "text/plain")],
            415,
        ),
        (
            "POST",
            "/process.Process/Start",
            vec![("Content-Type", "application/json")],
            415,
        ),
        ("POST", "/process.Process/StreamInput", vec![], 415),
        ("DELETE", "/health", vec![], 405),
        ("GET", "/init", vec![], 405),
    ] {
        let reply = agent.send(method, path, &headers, b"");
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.json()["code"], status, "{method} {path}");
    }
    let preflight = agent.send("OPTIONS", "/files", &[("Origin", "https://app.example")], b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers").as_deref(), Some("*"));
}

#[test]
fn says_what_it_is() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_atoll-agent"))
        .arg("--version")
        .output()
        .unwrap();
    let expected = concat!("atoll-agent ", env!("CARGO_PKG_VERSION"), " generation 1 envd 0.6.13\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let unknown = std::process::Command::new(env!("CARGO_BIN_EXE_atoll-agent"))
        .arg("--what")
        .output()
        .unwrap();
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("'--what'"));
}
