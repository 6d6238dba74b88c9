//! All processes the agent started and has not forgotten.

use super::live::{Exit, Process};
use super::messages::ProcessSelector;
use crate::connect::{Code, ConnectError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Processes by pid.
#[derive(Default)]
pub struct Registry {
    processes: Mutex<BTreeMap<u32, Arc<Process>>>,
}

impl Registry {
    /// Remember a process. A pid that comes again replaces the ended one that had it.
    pub fn add(&self, process: Arc<Process>) {
        self.lock().insert(process.pid, process);
    }

    /// Forget `process`, unless its pid is another's by now.
    pub fn forget(&self, process: &Arc<Process>) {
        let mut processes = self.lock();
        if processes.get(&process.pid).is_some_and(|found| Arc::ptr_eq(found, process)) {
            processes.remove(&process.pid);
        }
    }

    /// The reaper found that `pid` ended; orphans of others are none of ours.
    pub fn exited(&self, pid: u32, exit: Exit) {
        if let Some(process) = self.lock().get(&pid)
            && process.exit.borrow().is_none()
        {
            process.exit.send_replace(Some(exit));
        }
    }

    /// Those that still run, by pid.
    pub fn running(&self) -> Vec<Arc<Process>> {
        self.lock().values().filter(|process| !process.output.has_ended()).cloned().collect()
    }

    /// The process a caller means, also when it just ended.
    pub fn find(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, ConnectError> {
        let processes = self.lock();
        let (found, what) = match selector {
            Some(ProcessSelector { pid: Some(pid), .. }) => (processes.get(pid).cloned(), format!("pid {pid}")),
            Some(ProcessSelector { tag: Some(tag), .. }) => {
                let tagged = |process: &&Arc<Process>| process.tag.as_ref() == Some(tag);
                (processes.values().rfind(tagged).cloned(), format!("tag {tag}"))
            }
            _ => return Err(ConnectError::new(Code::InvalidArgument, "a process is selected by its pid or its tag")),
        };
        found.ok_or_else(|| ConnectError::new(Code::NotFound, format!("process with {what} not found")))
    }

    /// The process a caller means, if it still runs.
    pub fn find_running(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, ConnectError> {
        let process = self.find(selector)?;
        if process.output.has_ended() {
            return Err(ConnectError::new(Code::NotFound, format!("process with pid {} not found", process.pid)));
        }
        Ok(process)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
