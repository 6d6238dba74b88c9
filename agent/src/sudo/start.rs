//! PID 1's side: starting a command for a caller who may.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, WaitStatus};
use tokio::sync::oneshot;

use super::environment::{self, Basis, SECURE_PATH, Variables};
use super::message::Request;
use super::options::Mode;
use super::policy::Permit;
use super::resolve::{self, Program};
use crate::process::{CloneError, Identity, Plan, Step, start_plan};
use crate::state::Agent;
use crate::users::{self, User};

/// A command that runs.
pub struct Running {
    /// Its process id, session and group.
    pub pid: Pid,
    /// Gets its wait status.
    pub exit: oneshot::Receiver<WaitStatus>,
}

/// Starts what `request` asks for, with the caller's `descriptors`: standard ones, and a terminal to control it, if any.
///
/// The error is the line for the caller.
pub fn start(
    agent: &Arc<Agent>,
    permit: &Permit,
    request: &Request,
    descriptors: &[OwnedFd],
) -> Result<Running, String> {
    let caller = &permit.caller;
    let target = target(request, caller)?;
    let path = permit.findings.secure_path.as_deref().unwrap_or(SECURE_PATH);
    let program = resolve::program(request, caller, &target, path)?;
    let login = request.mode == Mode::Login;
    let mut variables = environment::build(&Basis {
        given: &request.environment,
        caller,
        target: &target,
        path,
        keep_all: request.keep_all,
        set_home: request.set_home,
        login,
        keep: &request.keep,
        image_keep: &permit.findings.keep,
        assignments: &request.assignments,
        command: &program.line(),
    });
    for (name, value) in &agent.settings().system_envs {
        variables.insert(name.clone().into_bytes(), value.clone().into_bytes());
    }
    let [stdin, stdout, stderr, terminal @ ..] = descriptors else {
        return Err("sudo: the standard descriptors did not arrive".to_owned());
    };
    let terminal = terminal.first();
    if let Some(terminal) = terminal {
        give_terminal(terminal, &target)?;
    }
    let directory = if login && !request.directory_asked {
        target.home.as_os_str().as_encoded_bytes().to_vec()
    } else {
        request.directory.clone()
    };
    let plan = |program: &Program| -> Result<Plan, String> {
        Ok(Plan {
            programs: vec![to_c(&program.path)?],
            arguments: program
                .arguments
                .iter()
                .map(|argument| to_c(argument))
                .collect::<Result<_, _>>()?,
            environment: entries(&variables)?,
            directory: to_c(&directory)?,
            directory_optional: !request.directory_asked,
            stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
            terminal: terminal.map(AsRawFd::as_raw_fd),
            identity: Some(Identity {
                uid: target.uid,
                gid: target.gid,
                groups: target.groups.clone(),
            }),
        })
    };
    let started = start_plan(&plan(&program)?).or_else(|error| {
        if (error.step, error.errno) != (Step::Execute, Errno::NOEXEC) {
            return Err(refusal(&error, &program, &directory));
        }
        // As sudo and every shell does with a script that names no interpreter.
        let mut arguments = vec![b"sh".to_vec(), program.path.clone()];
        arguments.extend_from_slice(&program.arguments[1..]);
        let script = Program {
            path: b"/bin/sh".to_vec(),
            arguments,
        };
        start_plan(&plan(&script)?).map_err(|error| refusal(&error, &script, &directory))
    });
    let pid = started?;
    Ok(Running {
        pid,
        exit: agent.processes.expect(pid),
    })
}

/// What `-l` says.
pub fn list(permit: &Permit, request: &Request) -> Result<String, String> {
    let target = target(request, &permit.caller)?;
    let name = &permit.caller.name;
    if request.command.is_empty() {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        return Ok(format!(
            "User {name} may run the following commands on {host}:\n    (ALL : ALL) NOPASSWD: ALL\n"
        ));
    }
    let path = permit.findings.secure_path.as_deref().unwrap_or(SECURE_PATH);
    let plain = Request {
        command: request.command.clone(),
        directory: request.directory.clone(),
        ..Request::default()
    };
    let program = resolve::program(&plain, &permit.caller, &target, path)?;
    Ok(format!("{}\n", String::from_utf8_lossy(&program.line())))
}

fn target(request: &Request, caller: &User) -> Result<User, String> {
    let (user, group) = (
        String::from_utf8_lossy(&request.user),
        String::from_utf8_lossy(&request.group),
    );
    let unknown = |what: &str, name: &str| format!("sudo: unknown {what} {name}");
    let mut target = match user.as_ref() {
        // With a group only, the user stays.
        "" if !group.is_empty() => caller.clone(),
        "" => users::with_name("root").map_err(|error| format!("sudo: {error}"))?,
        name => match name.strip_prefix('#') {
            Some(id) => id.parse().ok().and_then(|id| users::with_uid(id).ok()),
            None => users::with_name(name).ok(),
        }
        .ok_or_else(|| unknown("user", name))?,
    };
    if !group.is_empty() {
        let id = match group.strip_prefix('#') {
            Some(id) => id.parse().ok(),
            None => users::group_id(&group).map_err(|error| format!("sudo: {error}"))?,
        };
        target.gid = id.ok_or_else(|| unknown("group", &group))?;
        if !target.groups.contains(&target.gid) {
            target.groups.insert(0, target.gid);
        }
    }
    Ok(target)
}

/// The command must be able to open its terminal by name.
fn give_terminal(terminal: &OwnedFd, target: &User) -> Result<(), String> {
    let failed = |errno: Errno| format!("sudo: cannot use the terminal: {errno}");
    if !rustix::termios::isatty(terminal) {
        return Err("sudo: cannot use the terminal: it is none".to_owned());
    }
    match rustix::fs::fchown(terminal, Some(Uid::from_raw(target.uid)), None::<Gid>) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

fn refusal(error: &CloneError, program: &Program, directory: &[u8]) -> String {
    let path = String::from_utf8_lossy(&program.path);
    // The words of the C library, without the number that Rust adds.
    let text = error.errno.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    match error.step {
        Step::Directory => format!(
            "sudo: unable to change directory to {}: {reason}",
            String::from_utf8_lossy(directory)
        ),
        Step::Execute if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => {
            format!("sudo: {path}: command not found")
        }
        Step::Execute => format!("sudo: unable to execute {path}: {reason}"),
        Step::Clone => format!("sudo: unable to fork: {reason}"),
        Step::Identity => format!("sudo: unable to become the user: {reason}"),
        Step::Setup => format!("sudo: unable to set up the command: {reason}"),
    }
}

fn entries(variables: &Variables) -> Result<Vec<CString>, String> {
    variables
        .iter()
        .map(|(name, value)| to_c(&[name.as_slice(), value].join(&b'=')))
        .collect()
}

fn to_c(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| "sudo: a NUL byte in an argument".to_owned())
}
