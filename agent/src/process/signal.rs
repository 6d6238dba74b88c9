//! Signals, to whole process groups: `SendSignal`, and `atoll.guest.v1.Guest/Signal` for any signal.

use std::sync::Arc;

use super::select;
use super::shared::Process;
use crate::connect::{self, Code, Error};
use crate::http::{Request, Response};
use crate::state::Agent;
use crate::wire::guest::SignalRequest;
use crate::wire::process::{Empty, SendSignalRequest, Signal};

/// Sends `signal` to the process group. A group that is gone is no error: it is ended as it should be.
pub fn send(process: &Process, signal: i32) -> Result<(), Error> {
    let group = process.pid.as_raw_nonzero().get();
    // SAFETY: `kill` touches no memory. The pid is at least 2, so the group is one process's session and neither the
    // agent's own group (0) nor everything (-1).
    let failed = unsafe { libc::kill(-group, signal) } < 0;
    if failed {
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ESRCH) {
            return Err(Error::internal(format!("cannot signal process group {group}: {error}")));
        }
    }
    if signal == libc::SIGKILL {
        process.kill_sent.notify_one();
    }
    Ok(())
}

/// `process.Process/SendSignal`: `unimplemented` for other signals than SIGTERM and SIGKILL.
pub async fn send_signal(agent: Arc<Agent>, message: SendSignalRequest) -> Result<Empty, Error> {
    let process = select::running(&agent.processes, message.process.as_ref())?;
    let signal = match Signal::try_from(message.signal) {
        Ok(Signal::Sigkill) => libc::SIGKILL,
        Ok(Signal::Sigterm) => libc::SIGTERM,
        _ => {
            return Err(Error::new(
                Code::Unimplemented,
                format!(
                    "invalid signal: {}; use SIGNAL_SIGTERM or SIGNAL_SIGKILL",
                    message.signal
                ),
            ));
        }
    };
    send(&process, signal)?;
    Ok(Empty {})
}

/// `atoll.guest.v1.Guest/Signal`.
pub async fn handle(agent: &Arc<Agent>, request: Request) -> Response {
    let agent = Arc::clone(agent);
    connect::unary(request, |_, message: SignalRequest| async move {
        let signal = parse(&message.signal)?;
        let process = select::running(&agent.processes, message.process.as_ref())?;
        send(&process, signal)?;
        Ok(Empty {})
    })
    .await
}

/// A signal's number from its name, with or without `SIG`, or its number.
fn parse(text: &str) -> Result<i32, Error> {
    let unknown = || {
        Error::invalid(format!(
            "unknown signal '{text}': give a name (SIGINT) or a number from 1 to 64"
        ))
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
        .ok_or_else(unknown)
}

const NAMES: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, expected) in [
            ("SIGINT", Some(2)),
            ("int", Some(2)),
            ("KILL", Some(9)),
            ("10", Some(10)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("SIGNAL_SIGKILL", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
