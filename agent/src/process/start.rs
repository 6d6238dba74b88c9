//! Starting a process for a request.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::child::{self, ChildError, Wiring};
use super::clone::{CloneError, Identity, Step};
use super::command;
use super::environment;
use super::shared::Process;
use super::supervise::supervise;
use crate::connect::{Code, Context, Error};
use crate::state::Agent;
use crate::users::User;
use crate::wire::process::{ProcessConfig, StartRequest};

/// Starts what `message` asks for. Everything happens at once, so no client can vanish half-way.
///
/// `unauthenticated` for a user that does not exist; `invalid_argument` for a bad program name, variable or working
/// directory; `not_found` for a missing program; `permission_denied` for one that may not be run;
/// `resource_exhausted` when there are too many processes, descriptors or too little memory.
pub fn start(agent: &Arc<Agent>, context: &Context, message: StartRequest) -> Result<Arc<Process>, Error> {
    let deadline = context.timeout.map(|timeout| Instant::now() + timeout);
    let config = message
        .process
        .ok_or_else(|| Error::invalid("the request names no process to start"))?;
    let user = agent.request_user(&context.headers)?;
    let envs = environment::build(&user, &agent.settings(), &agent.path, &config.envs)?;
    // Only root can become another user; a test's agent runs everything as itself.
    let privileged = rustix::process::geteuid().is_root();
    let identity = privileged.then(|| Identity {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
    });
    let plan = command::plan(&config, &user, identity, &agent.workdir(&user), &envs)?;
    let wiring = match &message.pty {
        Some(pty) => Wiring::Terminal { size: pty.size.clone() },
        // Clients older than the flag expect a standard input.
        None => Wiring::Pipes {
            stdin: message.stdin.unwrap_or(true),
        },
    };
    let owner = privileged.then_some(&user);
    let child = child::start(plan, &wiring, owner).map_err(|error| refusal(error, &config, &user))?;
    let pid = child.pid;
    let outputs = child
        .outputs
        .into_iter()
        .map(|(source, fd)| {
            // SAFETY: the descriptor is owned by the registration, so it stays open and the same for as long.
            let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
            Ok((source, fd))
        })
        .collect::<io::Result<Vec<_>>>();
    let process = Process::new(pid, message.tag, config, child.input);
    let exit = agent.processes.add(&process);
    let outputs = outputs.map_err(|error| {
        // Unreachable output would leave the process running unheard.
        let _ = super::signal::send(&process, libc::SIGKILL);
        agent.processes.remove(&process);
        Error::new(
            Code::ResourceExhausted,
            format!("cannot watch the process's output: {error}"),
        )
    })?;
    tokio::spawn(supervise(
        Arc::clone(agent),
        Arc::clone(&process),
        user.name,
        outputs,
        exit,
        deadline,
    ));
    Ok(process)
}

fn refusal(error: ChildError, config: &ProcessConfig, user: &User) -> Error {
    let (step, errno) = match error {
        ChildError::Wiring { .. } => return Error::new(Code::ResourceExhausted, error.to_string()),
        ChildError::Clone(CloneError { step, errno }) => (step, errno),
    };
    let cmd = &config.cmd;
    let cwd = config.cwd.as_deref().unwrap_or_default();
    match (step, errno) {
        (Step::Directory, Errno::NOENT) => Error::invalid(format!("cwd '{cwd}' does not exist")),
        (Step::Directory, Errno::NOTDIR) => Error::invalid(format!("cwd '{cwd}' is not a directory")),
        (Step::Directory, Errno::ACCESS) => Error::new(
            Code::PermissionDenied,
            format!("user '{}' may not enter cwd '{cwd}'", user.name),
        ),
        (Step::Directory, _) => Error::invalid(format!("cwd '{cwd}' cannot be entered: {errno}")),
        (Step::Execute, Errno::NOENT | Errno::NOTDIR) if cmd.contains('/') => {
            Error::not_found(format!("program '{cmd}' does not exist, or its interpreter does not"))
        }
        (Step::Execute, Errno::NOENT | Errno::NOTDIR) => {
            Error::not_found(format!("program '{cmd}' was not found in PATH"))
        }
        (Step::Execute, Errno::ACCESS | Errno::PERM) => Error::new(
            Code::PermissionDenied,
            format!("user '{}' may not run '{cmd}', or it is not executable", user.name),
        ),
        (Step::Execute, Errno::NOEXEC) => Error::invalid(format!("'{cmd}' is not a program: no known format, no '#!'")),
        (Step::Execute, Errno::TOOBIG) => Error::invalid("the arguments and variables are too large for a process"),
        (_, Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Error::new(
            Code::ResourceExhausted,
            format!("cannot start '{cmd}': too many processes, or too little memory ({errno})"),
        ),
        (Step::Identity, _) => Error::new(
            Code::PermissionDenied,
            format!("cannot become user '{}': {errno}", user.name),
        ),
        _ => Error::internal(format!("cannot start '{cmd}': {errno}")),
    }
}
