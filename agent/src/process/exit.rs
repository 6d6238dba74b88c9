//! How a process ended, in envd's words.

use crate::wire::process::EndEvent;

/// The end event of a wait status, as wait(2) gives it.
pub fn end_event(status: i32) -> EndEvent {
    if libc::WIFSIGNALED(status) {
        let dumped = if libc::WCOREDUMP(status) { " (core dumped)" } else { "" };
        let text = format!("signal: {}{dumped}", signal_text(libc::WTERMSIG(status)));
        return EndEvent {
            exit_code: -1,
            exited: false,
            error: Some(text.clone()),
            status: text,
        };
    }
    let code = libc::WEXITSTATUS(status);
    let text = format!("exit status {code}");
    EndEvent {
        exit_code: code,
        exited: true,
        error: (code != 0).then(|| text.clone()),
        status: text,
    }
}

fn signal_text(signal: i32) -> String {
    let text = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        other => return format!("signal {other}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_it_ended() {
        for (raw, code, exited, status, error) in [
            (0, 0, true, "exit status 0", None),
            (7 << 8, 7, true, "exit status 7", Some("exit status 7")),
            (9, -1, false, "signal: killed", Some("signal: killed")),
            (15, -1, false, "signal: terminated", Some("signal: terminated")),
            (
                0x8b,
                -1,
                false,
                "signal: segmentation fault (core dumped)",
                Some("signal: segmentation fault (core dumped)"),
            ),
            (40, -1, false, "signal: signal 40", Some("signal: signal 40")),
        ] {
            let end = end_event(raw);
            assert_eq!(
                (end.exit_code, end.exited, end.status.as_str(), end.error.as_deref()),
                (code, exited, status, error)
            );
        }
    }
}
