//! Every process started through the agent, from its start to 30 s after its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitStatus};
use tokio::sync::oneshot;

use super::shared::Process;

/// Output of ended processes held for late readers, in bytes over all of them (2 MiB); beyond it the oldest go first.
const MAX_ENDED_OUTPUT: usize = 2 * 1024 * 1024;
/// Ended processes held for late readers; beyond it the oldest go first.
const MAX_ENDED: usize = 512;

/// The processes.
#[derive(Default)]
pub struct Table {
    processes: Mutex<Vec<Arc<Process>>>,
    exits: Mutex<HashMap<Pid, oneshot::Sender<WaitStatus>>>,
}

impl Table {
    fn processes(&self) -> MutexGuard<'_, Vec<Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exits(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<WaitStatus>>> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a process that was just started; the receiver gets its wait status.
    pub(super) fn add(&self, process: &Arc<Process>) -> oneshot::Receiver<WaitStatus> {
        let receiver = self.expect(process.pid);
        self.processes().push(Arc::clone(process));
        receiver
    }

    /// Gets the wait status of a child that was just started and is not in the table.
    pub(crate) fn expect(&self, pid: Pid) -> oneshot::Receiver<WaitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.exits().insert(pid, sender);
        receiver
    }

    /// Tells whoever waits for `pid`; a process nobody started here is only reaped.
    pub(super) fn exited(&self, pid: Pid, status: WaitStatus) {
        if let Some(sender) = self.exits().remove(&pid) {
            // A dropped receiver means nobody wants to know any more.
            let _ = sender.send(status);
        }
    }

    pub(super) fn remove(&self, process: &Arc<Process>) {
        self.processes().retain(|other| !Arc::ptr_eq(other, process));
    }

    /// Forgets output and entries of ended processes beyond the limits, the oldest first.
    pub(super) fn trim(&self) {
        let mut processes = self.processes();
        let mut ended: Vec<_> = processes
            .iter()
            .filter(|process| process.has_ended())
            .cloned()
            .collect();
        let excess = ended.len().saturating_sub(MAX_ENDED);
        let dropped: Vec<_> = ended.drain(..excess).collect();
        processes.retain(|process| !dropped.iter().any(|gone| Arc::ptr_eq(gone, process)));
        let mut held = 0;
        for process in ended.iter().rev() {
            held += process.spare();
            if held > MAX_ENDED_OUTPUT {
                process.forget_output();
            }
        }
    }

    /// The processes that have not ended, oldest first.
    pub fn running(&self) -> Vec<Arc<Process>> {
        self.processes()
            .iter()
            .filter(|process| !process.has_ended())
            .cloned()
            .collect()
    }

    /// The newest process that `matches`; running ones before ended ones.
    pub(super) fn newest(&self, matches: impl Fn(&Process) -> bool) -> Option<Arc<Process>> {
        let processes = self.processes();
        let mut found = processes.iter().rev().filter(|process| matches(process));
        let newest = found.next()?;
        if !newest.has_ended() {
            return Some(Arc::clone(newest));
        }
        let running = found.find(|process| !process.has_ended());
        Some(Arc::clone(running.unwrap_or(newest)))
    }
}
