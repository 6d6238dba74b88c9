//! The end: processes are asked, given two seconds, then killed.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::log;
use crate::state::Agent;

/// From SIGTERM to SIGKILL. The daemon's own patience for a stop is longer.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether all have ended, in that time only.
const LOOK: Duration = Duration::from_millis(20);

/// The signals that end the agent.
pub struct Told {
    terminate: Signal,
    interrupt: Signal,
}

/// Registers for SIGTERM and SIGINT.
pub fn listen() -> io::Result<Told> {
    Ok(Told {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl Told {
    /// Waits for either.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends every process: as PID 1 all there are, otherwise the groups of those started here.
pub async fn end_processes(agent: &Agent) {
    log::info("boot", "ending", &[]);
    signal_all(agent, libc::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && has_children() {
        sleep(LOOK).await;
    }
    signal_all(agent, libc::SIGKILL);
}

fn signal_all(agent: &Agent, number: i32) {
    if agent.is_init {
        // SAFETY: touches no memory. As PID 1, -1 is everything in the sandbox but this process.
        unsafe { libc::kill(-1, number) };
        return;
    }
    for process in agent.processes.running() {
        // SAFETY: touches no memory; a running process's id is that of its group.
        unsafe { libc::kill(-process.pid.as_raw_nonzero().get(), number) };
    }
}

/// Whether there is any child, ended or not; waits for none, as the reaper does that.
fn has_children() -> bool {
    // SAFETY: a null information pointer is allowed, and WNOWAIT leaves the child to the reaper.
    let outcome = unsafe {
        libc::waitid(
            libc::P_ALL,
            0,
            std::ptr::null_mut(),
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    outcome == 0
}
