//! `POST /init`: the daemon tells the agent what sandbox it is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::identity;
use crate::http::{self, BodyError, Request, Response};
use crate::process;
use crate::state::Agent;
use crate::{auth, log};

/// The body; every field is optional and an absent one changes nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Init {
    access_token: Option<String>,
    env_vars: Option<BTreeMap<String, String>>,
    timestamp: Option<String>,
    default_user: Option<String>,
    default_workdir: Option<String>,
    hostname: Option<String>,
    sandbox_id: Option<String>,
    template_id: Option<String>,
    pids_max: Option<u64>,
}

/// Answers 204, or 400 for a body that is not JSON of the expected form, 401 without the current token once one is set.
///
/// The first call sets the token; later ones may change it. Variables are added to those set before.
/// What the kernel refuses (clock, host name, limit on processes) is logged and no error.
pub async fn handle(agent: &Arc<Agent>, request: Request) -> Response {
    if request.method() != Method::POST {
        return http::error(StatusCode::METHOD_NOT_ALLOWED, "use POST");
    }
    if !agent.is_authorized(request.headers()) {
        return auth::refusal();
    }
    let body = match http::read_whole(request.into_body()).await {
        Ok(body) => body,
        Err(error @ BodyError::TooLarge) => return http::error(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Err(error) => return http::error(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match http::parse_object(&body) {
        Ok(init) => match apply(agent, init) {
            Ok(()) => http::status(StatusCode::NO_CONTENT),
            Err(message) => http::error(StatusCode::BAD_REQUEST, message),
        },
        Err(error) => http::error(
            StatusCode::BAD_REQUEST,
            format!("the body is not an init request: {error}"),
        ),
    }
}

fn apply(agent: &Agent, init: Init) -> Result<(), String> {
    for (name, value) in init.env_vars.iter().flatten() {
        process::check_variable(name, value).map_err(|error| error.message)?;
    }
    for id in [&init.sandbox_id, &init.template_id, &init.hostname]
        .into_iter()
        .flatten()
    {
        if id.contains('\0') {
            return Err("an id or a host name holds a NUL byte".to_owned());
        }
    }
    let mut settings = agent.settings();
    if let Some(token) = init.access_token.filter(|token| !token.is_empty()) {
        settings.token = Some(token);
    }
    settings.envs.extend(init.env_vars.unwrap_or_default());
    set(&mut settings.default_user, init.default_user);
    set(&mut settings.default_workdir, init.default_workdir);
    let system = &mut settings.system_envs;
    system.insert("E2B_SANDBOX".to_owned(), "true".to_owned());
    if let Some(id) = &init.sandbox_id {
        system.insert("E2B_SANDBOX_ID".to_owned(), id.clone());
        system.insert("ATOLL_SANDBOX_ID".to_owned(), id.clone());
    }
    if let Some(id) = &init.template_id {
        system.insert("E2B_TEMPLATE_ID".to_owned(), id.clone());
    }
    drop(settings);
    let mut failures: Vec<(&str, Value)> = Vec::new();
    if let Some(directory) = &agent.run_dir {
        let ids = [
            (".E2B_SANDBOX", Some("true")),
            (".E2B_SANDBOX_ID", init.sandbox_id.as_deref()),
            (".E2B_TEMPLATE_ID", init.template_id.as_deref()),
        ];
        if let Err(error) = identity::write_files(directory, &ids) {
            failures.push(("files", error.to_string().into()));
        }
    }
    if agent.is_init {
        let outcomes = [
            ("hostname", init.hostname.as_deref().map(identity::set_hostname)),
            ("clock", init.timestamp.as_deref().map(identity::set_clock)),
            ("pidsMax", init.pids_max.map(identity::limit_processes)),
        ];
        for (what, outcome) in outcomes {
            if let Some(Err(error)) = outcome {
                failures.push((what, error.to_string().into()));
            }
        }
    }
    if failures.is_empty() {
        log::info("init", "initialised", &[]);
    } else {
        log::info("init", "initialised, except for what this kernel refuses", &failures);
    }
    Ok(())
}

/// An empty value takes the setting back to its default.
fn set(setting: &mut Option<String>, value: Option<String>) {
    if let Some(value) = value {
        *setting = (!value.is_empty()).then_some(value);
    }
}
