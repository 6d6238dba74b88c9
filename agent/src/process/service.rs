//! The methods of `process.Process`.

use std::sync::Arc;

use hyper::StatusCode;

use super::reader::Events;
use super::{replay, select, signal, start};
use crate::connect::{self, Context, Error, Messages, Streaming};
use crate::http::{self, Request, Response};
use crate::state::Agent;
use crate::wire::process::{
    CloseStdinRequest, ConnectRequest, Empty, ListRequest, ListResponse, ProcessInfo, SendInputRequest, StartRequest,
    StreamInputRequest, UpdateRequest,
};

/// Answers one call; `method` is the path's last part.
pub async fn handle(agent: &Arc<Agent>, method: &str, request: Request) -> Response {
    let agent = Arc::clone(agent);
    match method {
        "List" => connect::unary(request, |_, _: ListRequest| async move { Ok(list(&agent)) }).await,
        "Start" => {
            connect::server_stream(
                request,
                |context, message| async move { start(&agent, &context, message) },
            )
            .await
        }
        "Connect" => {
            connect::server_stream(
                request,
                |context, message| async move { attach(&agent, &context, &message) },
            )
            .await
        }
        "Update" => connect::unary(request, |_, message| async move { update(&agent, &message) }).await,
        "SendInput" => connect::unary(request, |_, message| send_input(agent, message)).await,
        "StreamInput" => connect::client_stream(request, |_, messages| stream_input(agent, messages)).await,
        "SendSignal" => connect::unary(request, |_, message| signal::send_signal(agent, message)).await,
        "CloseStdin" => connect::unary(request, |_, message| close_stdin(agent, message)).await,
        _ => http::error(
            StatusCode::NOT_FOUND,
            format!("process.Process has no method '{method}'"),
        ),
    }
}

fn list(agent: &Agent) -> ListResponse {
    let processes = agent
        .processes
        .running()
        .into_iter()
        .map(|process| ProcessInfo {
            config: Some(process.config.clone()),
            pid: process.number(),
            tag: process.tag.clone(),
        })
        .collect();
    ListResponse { processes }
}

fn start(agent: &Arc<Agent>, context: &Context, message: StartRequest) -> Result<Streaming<Events>, Error> {
    let process = start::start(agent, context, message)?;
    let (events, _) = Events::new(process, Some(0));
    Ok(Streaming::new(events))
}

fn attach(agent: &Agent, context: &Context, message: &ConnectRequest) -> Result<Streaming<Events>, Error> {
    let from = replay::from(&context.headers)?;
    let process = select::any(&agent.processes, message.process.as_ref())?;
    let (items, lost) = Events::new(process, from);
    Ok(Streaming {
        items,
        headers: replay::headers(lost),
    })
}

fn update(agent: &Agent, message: &UpdateRequest) -> Result<Empty, Error> {
    let process = select::running(&agent.processes, message.process.as_ref())?;
    if let Some(size) = message.pty.as_ref().and_then(|pty| pty.size.as_ref()) {
        process.input.resize(size, process.pid)?;
    }
    Ok(Empty {})
}

async fn send_input(agent: Arc<Agent>, message: SendInputRequest) -> Result<Empty, Error> {
    let process = select::running(&agent.processes, message.process.as_ref())?;
    process.input.write(message.input.unwrap_or_default()).await?;
    Ok(Empty {})
}

async fn close_stdin(agent: Arc<Agent>, message: CloseStdinRequest) -> Result<Empty, Error> {
    let process = select::running(&agent.processes, message.process.as_ref())?;
    process.input.close().await?;
    Ok(Empty {})
}

/// Input in one ordered stream: `start` names the process, then `data` and `keepalive` in any order.
async fn stream_input(agent: Arc<Agent>, mut messages: Messages<StreamInputRequest>) -> Result<Empty, Error> {
    let mut target = None;
    while let Some(message) = messages.next().await? {
        match message {
            StreamInputRequest {
                start: Some(start),
                data: None,
                keepalive: None,
            } => target = Some(select::running(&agent.processes, start.process.as_ref())?),
            StreamInputRequest {
                start: None,
                data: Some(data),
                keepalive: None,
            } => {
                let process = target
                    .as_ref()
                    .ok_or_else(|| Error::invalid("the first message must be start, which names the process"))?;
                process.input.write(data.input.unwrap_or_default()).await?;
            }
            StreamInputRequest {
                start: None,
                data: None,
                keepalive: Some(_),
            } => {}
            _ => return Err(Error::invalid("a message must be one of start, data and keepalive")),
        }
    }
    Ok(Empty {})
}
