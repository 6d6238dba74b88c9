//! One process as the agent knows it.

use super::input::Input;
use super::messages::{EndEvent, ProcessConfig};
use super::output::Output;
use std::os::fd::OwnedFd;
use tokio::sync::{Mutex, watch};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The exit in `waitpid`'s form.
    pub fn from_wait(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }

    /// The end event, in envd's words.
    pub fn event(self) -> EndEvent {
        match self {
            Self::Code(code) => {
                let status = format!("exit status {code}");
                let error = (code != 0).then(|| status.clone());
                EndEvent { exit_code: code, exited: true, status, error }
            }
            Self::Signal(signal) => {
                let status = format!("signal: {}", super::signals::description(signal));
                EndEvent { exit_code: -1, exited: false, status: status.clone(), error: Some(status) }
            }
        }
    }
}

/// A process, from its start until half a minute after its end.
pub struct Process {
    /// Its id, and that of its session and group.
    pub pid: u32,
    /// As it was asked for.
    pub config: ProcessConfig,
    /// The caller's name for it.
    pub tag: Option<String>,
    /// What it emits.
    pub output: Output,
    /// Standard input; none when it has none or it was closed.
    pub stdin: Mutex<Option<Input>>,
    /// Whether it was started with standard input.
    pub stdin_enabled: bool,
    /// Its terminal, for input.
    pub terminal: Option<Input>,
    /// Set by the reaper.
    pub exit: watch::Sender<Option<Exit>>,
}

impl Process {
    /// The terminal's descriptor.
    pub fn terminal_descriptor(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().map(Input::descriptor)
    }

    /// Wait until the process itself has ended (its output may still flow).
    pub async fn wait(&self) -> Exit {
        let mut receiver = self.exit.subscribe();
        loop {
            if let Some(exit) = *receiver.borrow_and_update() {
                return exit;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `self`; this cannot be reached while `self` is borrowed.
                return Exit::Signal(libc::SIGKILL);
            }
        }
    }

    /// Send `signal` to the whole group; false when it is gone.
    pub fn signal(&self, signal: i32) -> bool {
        if self.exit.borrow().is_some() && self.output.has_ended() {
            return false;
        }
        let Ok(group) = libc::pid_t::try_from(self.pid) else { return false };
        // SAFETY: kill takes plain integers. The group id is a child of ours that is either not reaped yet or whose
        // group still has members, so it was not given to anybody else.
        unsafe { libc::kill(-group, signal) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_envds_words() {
        for (exit, code, exited, status, error) in [
            (Exit::Code(0), 0, true, "exit status 0", None),
            (Exit::Code(7), 7, true, "exit status 7", Some("exit status 7")),
            (Exit::Signal(9), -1, false, "signal: killed", Some("signal: killed")),
            (Exit::Signal(15), -1, false, "signal: terminated", Some("signal: terminated")),
        ] {
            let event = exit.event();
            assert_eq!((event.exit_code, event.exited, event.status.as_str()), (code, exited, status));
            assert_eq!(event.error.as_deref(), error);
        }
    }
}
