//! A reader's stream: start, what it missed, what comes, the end.

use super::live::Process;
use super::messages::{Empty, EventResponse, ProcessEvent, StartEvent};
use super::output::{Event, Subscription};
use crate::connect::outgoing::ReaderGone;
use crate::connect::{Code, ConnectError, StreamWriter};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How a stream behaves, from the request's headers.
pub struct Manner {
    /// When the caller's time is over.
    pub deadline: Option<Instant>,
    /// How often a quiet stream says that it lives.
    pub keepalive: Option<Duration>,
    /// From which byte on recent output is wanted.
    pub replay_from: Option<u64>,
}

impl Manner {
    /// The manner `headers` ask for.
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            deadline: crate::connect::timeout(headers).map(|timeout| Instant::now() + timeout),
            keepalive: crate::connect::keepalive(headers),
            replay_from: headers
                .get("atoll-replay-from")
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.parse().ok()),
        }
    }
}

/// Write the whole stream. Ends early when the reader is gone or its time is over; the process goes on either way.
pub async fn run(process: Arc<Process>, subscription: Subscription, writer: StreamWriter, manner: Manner) {
    let writing = write(&process, subscription, &writer, manner.keepalive);
    let over = async {
        match manner.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let late = tokio::select! {
        biased;
        done = writing => done.is_err().then_some(None),
        () = writer.closed() => Some(None),
        () = over => Some(Some(ConnectError::new(Code::DeadlineExceeded, "the operation timed out"))),
    };
    match late {
        None => writer.finish(None).await,
        Some(Some(error)) => {
            // A reader that is stuck must not keep the task: its time is over.
            let moment = Instant::now() + Duration::from_secs(5);
            let _ = timeout_at(moment, writer.finish(Some(error))).await;
        }
        Some(None) => {}
    }
}

async fn write(
    process: &Process,
    mut subscription: Subscription,
    writer: &StreamWriter,
    keepalive: Option<Duration>,
) -> Result<(), ReaderGone> {
    let start = ProcessEvent { start: Some(StartEvent { pid: process.pid }), ..ProcessEvent::default() };
    send(writer, start).await?;
    for chunk in subscription.replay.drain(..) {
        send(writer, ProcessEvent { data: Some(chunk.message()), ..ProcessEvent::default() }).await?;
    }
    loop {
        let next = match keepalive {
            None => subscription.events.recv().await,
            Some(interval) => match timeout_at(Instant::now() + interval, subscription.events.recv()).await {
                Ok(next) => next,
                Err(_quiet) => {
                    let sign = ProcessEvent { keepalive: Some(Empty::default()), ..ProcessEvent::default() };
                    send(writer, sign).await?;
                    continue;
                }
            },
        };
        match next {
            Some(Event::Data(chunk)) => {
                send(writer, ProcessEvent { data: Some(chunk.message()), ..ProcessEvent::default() }).await?;
            }
            Some(Event::End(end)) => {
                return send(writer, ProcessEvent { end: Some(end), ..ProcessEvent::default() }).await;
            }
            None => return Ok(()),
        }
    }
}

async fn send(writer: &StreamWriter, event: ProcessEvent) -> Result<(), ReaderGone> {
    writer.send(&EventResponse { event: Some(event) }).await
}
