//! Requests on `/files` and `/files/compose`: who may do it, for whom, and the answer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::body::{chunks, drain};
use super::compose::{ComposeRequest, compose};
use super::download::download;
use super::error::FileError;
use super::query::FilesQuery;
use super::scope::Scope;
use super::signature::{Operation, Proof, verify};
use super::upload::upload;
use crate::Agent;
use crate::auth::TOKEN_HEADER;
use crate::http::{self, Request, Response};
use crate::log;

/// Bytes of a refused upload that are still taken, so that the refusal can be read.
const STRANGER_BYTES: u64 = 1024 * 1024;

/// Answers `/files`, where token or signature are checked here, and `/files/compose`, where the
/// caller has checked the token.
pub async fn handle(agent: &Arc<Agent>, request: Request) -> Response {
    let method = request.method().clone();
    let answer = match (request.uri().path(), &method) {
        ("/files", &Method::GET | &Method::HEAD) => get(agent, request).await,
        ("/files", &Method::POST) => post(agent, request).await,
        ("/files/compose", &Method::POST) => join(agent, request).await,
        (path, method) => {
            let text = format!("{method} is not allowed on {path}");
            return http::error(StatusCode::METHOD_NOT_ALLOWED, text);
        }
    };
    answer.unwrap_or_else(|error| http::error(error.status(), error.to_string()))
}

async fn get(agent: &Agent, request: Request) -> Result<Response, FileError> {
    let query = FilesQuery::parse(request.uri().query().unwrap_or_default())?;
    authorize(agent, request.headers(), &query, Operation::Read)?;
    let scope = Scope::of(agent, query.username.as_deref())?;
    let path = scope.path(query.path.as_deref().unwrap_or_default())?;
    let headers = request.into_parts().0.headers;
    let response = blocking(move || download(&path, &headers)).await?;
    Ok(response.map(BodyExt::boxed_unsync))
}

async fn post(agent: &Agent, request: Request) -> Result<Response, FileError> {
    let (head, body) = request.into_parts();
    let mut body = chunks(body);
    let allowed = FilesQuery::parse(head.uri.query().unwrap_or_default()).and_then(|query| {
        authorize(agent, &head.headers, &query, Operation::Write)?;
        let scope = Scope::of(agent, query.username.as_deref())?;
        Ok((query, scope))
    });
    let (query, scope) = match allowed {
        Ok(allowed) => allowed,
        Err(error) => {
            // Whoever may not write may not keep the agent busy for long either.
            let stranger = matches!(error, FileError::Unauthorized(_));
            drain(&mut body, if stranger { STRANGER_BYTES } else { u64::MAX }).await;
            return Err(error);
        }
    };
    let stored = upload(body, &head.headers, query.path.as_deref(), &scope).await;
    match &stored {
        Ok(stored) => log::info("files", "uploaded", &[("files", json!(stored))]),
        Err(error) => log::error(
            "files",
            "upload failed",
            &[("path", json!(query.path)), ("error", json!(error.to_string()))],
        ),
    }
    Ok(http::json(StatusCode::OK, &stored?))
}

async fn join(agent: &Agent, request: Request) -> Result<Response, FileError> {
    let body = http::read_whole(request.into_body())
        .await
        .map_err(|error| FileError::BadRequest(error.to_string()))?;
    let message: ComposeRequest = serde_json::from_slice(&body)
        .map_err(|error| FileError::BadRequest(format!("invalid request body: {error}")))?;
    let scope = Scope::of(agent, message.username.as_deref())?;
    let joined = blocking(move || compose(&message, &scope)).await?;
    Ok(http::json(StatusCode::OK, &joined))
}

fn authorize(agent: &Agent, headers: &HeaderMap, query: &FilesQuery, operation: Operation) -> Result<(), FileError> {
    let Some(token) = agent.token() else {
        return Ok(());
    };
    let proof = Proof {
        header_token: http::header_text(headers, TOKEN_HEADER).filter(|token| !token.is_empty()),
        path: query.path.as_deref().unwrap_or_default(),
        username: query.username.as_deref().unwrap_or_default(),
        signature: query.signature.as_deref(),
        expiration_s: query.signature_expiration,
    };
    Ok(verify(&proof, operation, &token, now_s())?)
}

/// A clock before 1970 counts as 1970: every signature is still good then.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(panicked) => Err(FileError::io(
            "error inside the agent for",
            std::path::Path::new("/files"),
            std::io::Error::other(panicked),
        )),
    }
}
