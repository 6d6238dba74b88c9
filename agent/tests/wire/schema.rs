use std::collections::BTreeMap;

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use crate::harness::Agent;
use crate::proto::{DIRECTORY, pool};

/// Method, path, and whether it needs the access token once one is set.
const ENDPOINTS: [(&str, &str, bool); 10] = [
    ("GET", "/health", false),
    ("POST", "/init", true),
    ("GET", "/metrics", true),
    ("GET", "/envs", true),
    ("GET", "/files", true),
    ("POST", "/files", true),
    ("POST", "/files/compose", true),
    ("GET", "/atoll/v1/info", true),
    ("GET", "/atoll/v1/sockets", true),
    ("CONNECT", "127.0.0.1:<port>", true),
];

fn field(field: &FieldDescriptor) -> Value {
    let kind = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(kind) => kind.full_name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let label = match field.cardinality() {
        Cardinality::Repeated if field.is_map() => "map",
        Cardinality::Repeated => "repeated",
        _ if field.supports_presence() => "optional",
        _ => "plain",
    };
    let oneof = field
        .containing_oneof()
        .filter(|oneof| oneof.fields().count() > 1)
        .map(|oneof| oneof.name().to_owned());
    json!({"number": field.number(), "json": field.json_name(), "type": kind, "label": label, "oneof": oneof})
}

fn message(message: &MessageDescriptor) -> Value {
    let fields: BTreeMap<String, Value> = message.fields().map(|f| (f.name().to_owned(), field(&f))).collect();
    json!(fields)
}

fn ours(name: &str) -> bool {
    !name.starts_with("google.")
}

fn schema(pool: &DescriptorPool) -> Value {
    let messages: BTreeMap<String, Value> = pool
        .all_messages()
        .filter(|found| ours(found.full_name()) && !found.is_map_entry())
        .map(|found| (found.full_name().to_owned(), message(&found)))
        .collect();
    let enums: BTreeMap<String, BTreeMap<String, i32>> = pool
        .all_enums()
        .filter(|found| ours(found.full_name()))
        .map(|found| {
            let values = found
                .values()
                .map(|value| (value.name().to_owned(), value.number()))
                .collect();
            (found.full_name().to_owned(), values)
        })
        .collect();
    let services: BTreeMap<String, BTreeMap<String, Value>> = pool
        .services()
        .map(|service| {
            let methods = service
                .methods()
                .map(|method| {
                    let shape = json!({
                        "request": method.input().full_name(),
                        "response": method.output().full_name(),
                        "clientStream": method.is_client_streaming(),
                        "serverStream": method.is_server_streaming(),
                    });
                    (method.name().to_owned(), shape)
                })
                .collect();
            (service.full_name().to_owned(), methods)
        })
        .collect();
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|(method, path, token)| json!({"method": method, "path": path, "token": token}))
        .collect();
    json!({
        "generation": atoll_agent::GENERATION,
        "envd": atoll_agent::ENVD_VERSION,
        "services": services,
        "messages": messages,
        "enums": enums,
        "endpoints": endpoints,
        "headers": {
            "request": ["X-Access-Token", "Connect-Timeout-Ms", "Keepalive-Ping-Interval", "Atoll-Replay-From"],
            "response": ["Atoll-Replay-Gap"],
        },
    })
}

#[test]
fn the_generation_is_as_frozen() {
    let path = format!("{DIRECTORY}/gen-{}.json", atoll_agent::GENERATION);
    let current = serde_json::to_string_pretty(&schema(&pool())).unwrap() + "\n";
    if std::env::var_os("ATOLL_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert!(
        current == frozen,
        "the protocol differs from {path}: if that is meant, write it anew with ATOLL_UPDATE_SCHEMA=1 and review it"
    );
}

#[test]
fn every_method_and_endpoint_is_served() {
    // Only what ends before a handler acts is sent: a call that works would work on the machine of the test.
    let agent = Agent::start();
    for service in pool().services() {
        for method in service.methods() {
            let stream = method.is_client_streaming() || method.is_server_streaming();
            let path = format!("/{}/{}", service.full_name(), method.name());
            let reply = if stream {
                agent.send(
                    "POST",
                    &path,
                    &[("Content-Type", "application/connect+json")],
                    b"\0\0\0\0\x01[",
                )
            } else {
                agent.send("POST", &path, &[("Content-Type", "application/json")], b"[")
            };
            assert_eq!(reply.status, if stream { 200 } else { 400 }, "{path}");
            let text = String::from_utf8_lossy(&reply.body);
            assert!(text.contains("\"code\":\"invalid_argument\""), "{path}: {text}");
        }
    }
    for (method, path, _) in ENDPOINTS.into_iter().filter(|(method, ..)| *method != "CONNECT") {
        let reply = agent.send(method, path, &[("Content-Type", "application/octet-stream")], b"[");
        assert!(
            ![401, 404, 405].contains(&reply.status),
            "{method} {path}: {}",
            reply.status
        );
    }
    assert_eq!(agent.send("POST", "/init", &[], br#"{"accessToken":"t"}"#).status, 204);
    for (method, path, token) in ENDPOINTS.into_iter().filter(|(method, ..)| *method != "CONNECT") {
        assert_eq!(
            agent.send(method, path, &[], b"[").status == 401,
            token,
            "{method} {path}"
        );
    }
}
