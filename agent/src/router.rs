//! From a request's path to its handler, with the token checked on the way.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};

use crate::http::{self, Request, Response};
use crate::state::Agent;
use crate::{auth, files, fs, guest, process};

/// Answers one request.
///
/// Everything needs the access token except `GET /health`, `/init` (which has its own rule) and `/files`, which may
/// carry a signature instead and checks for itself. Unknown paths are 404 with a JSON body.
pub async fn handle(agent: Arc<Agent>, request: Request) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        route(agent, request).await
    };
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

async fn route(agent: Arc<Agent>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/health" => return get(&request, || http::status(StatusCode::NO_CONTENT)),
        "/init" => return guest::init::handle(&agent, request).await,
        "/files" => return files::handle(&agent, request).await,
        _ => {}
    }
    if !agent.is_authorized(request.headers()) {
        return auth::refusal();
    }
    if request.method() == Method::CONNECT {
        return guest::tunnel::handle(request).await;
    }
    match path.as_str() {
        "/files/compose" => return files::handle(&agent, request).await,
        "/metrics" => return get(&request, || guest::metrics::handle(&agent)),
        "/envs" => return get(&request, || guest::envs::handle(&agent)),
        "/atoll/v1/info" => return get(&request, || guest::info::handle(&agent)),
        "/atoll/v1/sockets" => return get(&request, guest::sockets::handle),
        _ => {}
    }
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some(("filesystem.Filesystem", method)) => fs::handle(&agent, method, request).await,
        Some(("process.Process", method)) => process::handle(&agent, method, request).await,
        Some(("atoll.guest.v1.Guest", "Signal")) => process::signal(&agent, request).await,
        _ => not_found(&path),
    }
}

fn get(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => answer(),
        _ => http::error(StatusCode::METHOD_NOT_ALLOWED, "use GET"),
    }
}

/// 404 for a path nobody serves.
pub fn not_found(path: &str) -> Response {
    http::error(StatusCode::NOT_FOUND, format!("nothing is served at '{path}'"))
}

fn preflight() -> Response {
    let mut response = http::status(StatusCode::NO_CONTENT);
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
