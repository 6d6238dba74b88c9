//! Looks after one process from its start until it is forgotten.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::WaitStatus;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::exit::end_event;
use super::output::pump;
use super::ring::Source;
use super::shared::Process;
use super::signal;
use crate::log;
use crate::state::Agent;
use crate::wire::process::EndEvent;

/// How long a late `Connect` finds an ended process.
const KEEP_ENDED: Duration = Duration::from_secs(30);
/// How long output may still come from others that hold a killed process's pipes.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// How long a terminal may still give output after its process ended: not every kernel reports its closing.
const AFTER_SESSION: Duration = Duration::from_millis(200);

/// Where a process's output comes from.
pub type Outputs = Vec<(Source, AsyncFd<OwnedFd>)>;

/// Runs until the process, one of `user`, is forgotten. At `deadline` the process group is killed.
pub async fn supervise(
    agent: Arc<Agent>,
    process: Arc<Process>,
    user: String,
    outputs: Outputs,
    exit: oneshot::Receiver<WaitStatus>,
    deadline: Option<Instant>,
) {
    // Here, and not before the answer to who started it.
    log::info(
        "process",
        "process started",
        &[("pid", process.number().into()), ("user", user.into())],
    );
    let end = run(&process, outputs, exit, deadline).await;
    log::info(
        "process",
        "process ended",
        &[("pid", process.number().into()), ("status", end.status.as_str().into())],
    );
    process.input.end();
    process.finish(end);
    agent.processes.trim();
    sleep(KEEP_ENDED).await;
    agent.processes.remove(&process);
}

async fn run(
    process: &Process,
    outputs: Outputs,
    exit: oneshot::Receiver<WaitStatus>,
    deadline: Option<Instant>,
) -> EndEvent {
    let terminal = outputs.iter().any(|(source, _)| *source == Source::Pty);
    let mut pumps = pin!(pump_all(process, &outputs));
    let mut exit = pin!(exit);
    let mut killed = pin!(killed(process, deadline));
    let mut drained = false;
    let mut was_killed = false;
    let status = loop {
        tokio::select! {
            () = &mut pumps, if !drained => drained = true,
            () = &mut killed, if !was_killed => was_killed = true,
            status = &mut exit => break status,
        }
    };
    // Others may still hold its output: they are waited for, as long as nobody wants an end.
    if !drained {
        let patience = if terminal { AFTER_SESSION } else { AFTER_KILL };
        if !terminal && !was_killed {
            tokio::select! {
                () = &mut pumps => drained = true,
                () = &mut killed => {}
            }
        }
        if !drained {
            // Past the patience the pipes are closed: what still writes to them gets SIGPIPE.
            let _ = timeout(patience, &mut pumps).await;
        }
    }
    match status {
        Ok(status) => end_event(status.as_raw()),
        // The reaper lives as long as the agent, so only an agent that ends gets here.
        Err(_) => EndEvent {
            exit_code: -1,
            status: "the agent ended".to_owned(),
            error: Some("the agent ended".to_owned()),
            ..EndEvent::default()
        },
    }
}

async fn pump_all(process: &Process, outputs: &Outputs) {
    match outputs.as_slice() {
        [(source, fd)] => pump(process, *source, fd).await,
        [(first, first_fd), (second, second_fd)] => {
            tokio::join!(pump(process, *first, first_fd), pump(process, *second, second_fd));
        }
        _ => {}
    }
}

/// Waits until somebody sends SIGKILL, or the deadline comes and it is sent here.
async fn killed(process: &Process, deadline: Option<Instant>) {
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    until_killed(process, late).await;
}

async fn until_killed(process: &Process, late: impl Future<Output = ()>) {
    tokio::select! {
        () = process.kill_sent.notified() => {}
        () = late => {
            if let Err(error) = signal::send(process, libc::SIGKILL) {
                log::error("process", "cannot kill a process that is out of time", &[
                    ("pid", process.number().into()),
                    ("error", error.message.into()),
                ]);
            }
        }
    }
}
