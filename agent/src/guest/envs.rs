//! `GET /envs`: the variables every process gets.

use hyper::StatusCode;

use crate::http::{self, Response};
use crate::process::PROTECTED;
use crate::state::Agent;

/// The sandbox's variables and the system's, as one JSON object.
pub fn handle(agent: &Agent) -> Response {
    let settings = agent.settings();
    let mut envs = settings.envs.clone();
    envs.retain(|name, _| !PROTECTED.contains(&name.as_str()));
    envs.extend(settings.system_envs.clone());
    drop(settings);
    http::json(StatusCode::OK, &envs)
}
