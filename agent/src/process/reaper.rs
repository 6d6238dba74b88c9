//! The one place that waits for children: the agent's own, and, as PID 1, every orphan.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::state::Agent;

/// Registers for SIGCHLD; must be called before the first process is started.
pub fn listen() -> io::Result<Signal> {
    signal(SignalKind::child())
}

/// Reaps every child that ends, for ever.
pub async fn reap(mut children: Signal, agent: Arc<Agent>) {
    while children.recv().await.is_some() {
        // One signal may stand for many children.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => agent.processes.exited(pid, status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}
