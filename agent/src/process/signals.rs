//! Signals by name and number.

const SIGNALS: [(&str, i32, &str); 31] = [
    ("HUP", libc::SIGHUP, "hangup"),
    ("INT", libc::SIGINT, "interrupt"),
    ("QUIT", libc::SIGQUIT, "quit"),
    ("ILL", libc::SIGILL, "illegal instruction"),
    ("TRAP", libc::SIGTRAP, "trace/breakpoint trap"),
    ("ABRT", libc::SIGABRT, "aborted"),
    ("BUS", libc::SIGBUS, "bus error"),
    ("FPE", libc::SIGFPE, "floating point exception"),
    ("KILL", libc::SIGKILL, "killed"),
    ("USR1", libc::SIGUSR1, "user defined signal 1"),
    ("SEGV", libc::SIGSEGV, "segmentation fault"),
    ("USR2", libc::SIGUSR2, "user defined signal 2"),
    ("PIPE", libc::SIGPIPE, "broken pipe"),
    ("ALRM", libc::SIGALRM, "alarm clock"),
    ("TERM", libc::SIGTERM, "terminated"),
    ("STKFLT", libc::SIGSTKFLT, "stack fault"),
    ("CHLD", libc::SIGCHLD, "child exited"),
    ("CONT", libc::SIGCONT, "continued"),
    ("STOP", libc::SIGSTOP, "stopped (signal)"),
    ("TSTP", libc::SIGTSTP, "stopped"),
    ("TTIN", libc::SIGTTIN, "stopped (tty input)"),
    ("TTOU", libc::SIGTTOU, "stopped (tty output)"),
    ("URG", libc::SIGURG, "urgent I/O condition"),
    ("XCPU", libc::SIGXCPU, "CPU time limit exceeded"),
    ("XFSZ", libc::SIGXFSZ, "file size limit exceeded"),
    ("VTALRM", libc::SIGVTALRM, "virtual timer expired"),
    ("PROF", libc::SIGPROF, "profiling timer expired"),
    ("WINCH", libc::SIGWINCH, "window changed"),
    ("IO", libc::SIGIO, "I/O possible"),
    ("PWR", libc::SIGPWR, "power failure"),
    ("SYS", libc::SIGSYS, "bad system call"),
];

/// The number of `SIGINT`, `INT`, `int` or `2`; none for what is no signal.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, _, _)| *known == name).map(|(_, number, _)| *number)
}

/// What a signal does to a process, in words.
pub fn description(signal: i32) -> String {
    SIGNALS
        .iter()
        .find(|(_, number, _)| *number == signal)
        .map_or_else(|| format!("signal {signal}"), |(_, _, words)| (*words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGINT", Some(2)),
            ("INT", Some(2)),
            ("sigterm", Some(15)),
            ("9", Some(9)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("NOPE", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
