//! Starting a process: its own session, the right user, nothing of ours left open in it.

use super::pty::{self, Terminal};
use crate::connect::{Code, ConnectError};
use crate::users::User;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// What to start, everything resolved.
pub struct Plan<'a> {
    /// Program, looked up in the environment's PATH when it has no slash.
    pub program: &'a str,
    /// Its arguments, without the program's own name.
    pub args: &'a [String],
    /// The whole environment.
    pub envs: &'a BTreeMap<String, String>,
    /// Existing directory.
    pub directory: &'a str,
    /// As whom.
    pub user: &'a User,
}

/// The agent's ends of a process without a terminal.
pub struct Pipes {
    /// Its standard input; none when it reads `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// Start with pipes. Returns the pid; the reaper collects it.
pub fn with_pipes(plan: &Plan<'_>, stdin: bool) -> Result<(u32, Pipes), ConnectError> {
    let mut command = command(plan);
    command
        .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepare(&mut command, plan.user, false);
    let mut child = command.spawn().map_err(|error| refused(plan.program, &error))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ConnectError::new(Code::Internal, "the process has no output pipes"));
    };
    let pipes = Pipes { stdin: child.stdin.take().map(OwnedFd::from), stdout: stdout.into(), stderr: stderr.into() };
    Ok((child.id(), pipes))
}

/// Start with `terminal` as its controlling terminal. Returns the pid and the agent's end.
pub fn with_terminal(plan: &Plan<'_>, terminal: Terminal) -> Result<(u32, OwnedFd), ConnectError> {
    let internal = |error: io::Error| ConnectError::new(Code::Internal, format!("no terminal: {error}"));
    let mut command = command(plan);
    command
        .stdin(pty::duplicate(&terminal.slave).map_err(internal)?)
        .stdout(pty::duplicate(&terminal.slave).map_err(internal)?)
        .stderr(terminal.slave);
    prepare(&mut command, plan.user, true);
    let child = command.spawn().map_err(|error| refused(plan.program, &error))?;
    Ok((child.id(), terminal.master))
}

fn command(plan: &Plan<'_>) -> Command {
    let mut command = Command::new(plan.program);
    command.args(plan.args).env_clear().envs(plan.envs).current_dir(plan.directory);
    command
}

fn prepare(command: &mut Command, user: &User, terminal: bool) {
    let (uid, gid) = (user.uid, user.gid);
    let groups = user.groups.clone();
    // SAFETY: the closure runs in the child between fork and exec. It makes only system calls that are safe there and
    // touches no memory but what it captured; it does not allocate.
    unsafe {
        command.pre_exec(move || {
            // Its own session: signals to the group reach all of it and nothing else.
            ok(libc::setsid())?;
            if terminal {
                ok(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            if libc::geteuid() == 0 {
                ok(libc::setgroups(groups.len(), groups.as_ptr()))?;
                ok(libc::setgid(gid))?;
                ok(libc::setuid(uid))?;
            }
            Ok(())
        });
    }
}

fn ok(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn refused(program: &str, error: &io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => ConnectError::new(
            Code::InvalidArgument,
            format!("error starting process: {program}: executable file not found in $PATH"),
        ),
        Some(libc::EACCES) => {
            ConnectError::new(Code::InvalidArgument, format!("error starting process: {program}: permission denied"))
        }
        Some(libc::E2BIG) => {
            ConnectError::new(Code::InvalidArgument, "error starting process: arguments and environment are too large")
        }
        Some(libc::ENOEXEC) => {
            ConnectError::new(Code::InvalidArgument, format!("error starting process: {program}: exec format error"))
        }
        Some(libc::EAGAIN | libc::ENOMEM) => {
            ConnectError::new(Code::ResourceExhausted, format!("error starting process: {error}"))
        }
        _ if error.kind() == io::ErrorKind::InvalidInput => {
            ConnectError::new(Code::InvalidArgument, format!("error starting process: {error}"))
        }
        _ => ConnectError::new(Code::Internal, format!("error starting process: {program}: {error}")),
    }
}
