use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::Agent;

const REFUSED: &str = "unauthorized access, please provide a valid access token or method signing if supported";

fn init(agent: &Agent, body: &Value, token: Option<&str>) -> u16 {
    let headers: Vec<_> = token.map(|token| ("X-Access-Token", token)).into_iter().collect();
    agent
        .send("POST", "/init", &headers, body.to_string().as_bytes())
        .status
}

#[test]
fn the_first_call_sets_the_token_and_later_ones_need_it() {
    let agent = Agent::start();
    assert_eq!(agent.get("/envs").status, 200);
    assert_eq!(init(&agent, &json!({"accessToken": "one"}), None), 204);
    for (method, path) in [
        ("GET", "/envs"),
        ("GET", "/metrics"),
        ("GET", "/atoll/v1/info"),
        ("GET", "/files?path=/etc/passwd"),
        ("POST", "/files/compose"),
        ("POST", "/init"),
        ("POST", "/process.Process/List"),
        ("POST", "/filesystem.Filesystem/Stat"),
        ("POST", "/atoll.guest.v1.Guest/Signal"),
        ("GET", "/unknown"),
    ] {
        for headers in [vec![], vec![("X-Access-Token", "wrong")]] {
            let reply = agent.send(method, path, &headers, b"{}");
            assert_eq!(reply.status, 401, "{method} {path}");
            // Signed transfers have texts of their own.
            if !path.starts_with("/files?") {
                assert_eq!(
                    reply.json(),
                    json!({"code": 401, "message": REFUSED}),
                    "{method} {path}"
                );
            }
        }
    }
    assert_eq!(agent.get("/health").status, 204);
    assert_eq!(init(&agent, &json!({"accessToken": "two"}), Some("one")), 204);
    assert_eq!(
        agent.send("GET", "/envs", &[("X-Access-Token", "one")], b"").status,
        401
    );
    assert_eq!(
        agent.send("GET", "/envs", &[("X-Access-Token", "two")], b"").status,
        200
    );
}

#[test]
fn variables_add_up_and_the_systems_stay() {
    let agent = Agent::start();
    assert_eq!(
        init(
            &agent,
            &json!({"envVars": {"A": "1", "B": "1", "E2B_SANDBOX_ID": "forged"}}),
            None
        ),
        204
    );
    let second = json!({"envVars": {"B": "2"}, "sandboxId": "s1", "templateId": "t1", "unknownField": {"x": 1}});
    assert_eq!(init(&agent, &second, None), 204);
    let expected = json!({
        "A": "1", "B": "2", "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "s1", "ATOLL_SANDBOX_ID": "s1", "E2B_TEMPLATE_ID": "t1",
    });
    assert_eq!(agent.get("/envs").json(), expected);
}

#[test]
fn refuses_what_is_no_init() {
    let agent = Agent::start();
    for body in [
        "{",
        "[]",
        "7",
        r#"{"envVars": {"A": 1}}"#,
        r#"{"envVars": {"A=B": "x"}}"#,
        r#"{"envVars": {"": "x"}}"#,
        r#"{"accessToken": 7}"#,
        r#"{"sandboxId": "a\u0000b"}"#,
    ] {
        let reply = agent.send("POST", "/init", &[], body.as_bytes());
        assert_eq!(
            (reply.status, reply.json()["code"].as_u64()),
            (400, Some(400)),
            "{body}"
        );
    }
    assert_eq!(agent.send("POST", "/init", &[], b"").status, 204);
    assert_eq!(
        agent
            .send("POST", "/init", &[], &vec![b' '; 4 * 1024 * 1024 + 1])
            .status,
        413
    );
}

#[test]
fn writes_the_files_that_name_the_sandbox() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let run = directory.path().join("e2b");
    let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-agent"));
    let agent = Agent::start_as(command.env("ATOLL_AGENT_RUN_DIR", &run));
    assert_eq!(init(&agent, &json!({"sandboxId": "s1", "templateId": "t1"}), None), 204);
    assert_eq!(init(&agent, &json!({"sandboxId": "s2"}), None), 204);
    for (name, content) in [
        (".E2B_SANDBOX", "true"),
        (".E2B_SANDBOX_ID", "s2"),
        (".E2B_TEMPLATE_ID", "t1"),
    ] {
        let path = run.join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    }
}
