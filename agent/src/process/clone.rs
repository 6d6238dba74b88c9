//! Starting a program without copying the agent: a child that shares the agent's memory until it executes.
//!
//! The child runs on its own small stack between `clone` and `execve`, while the calling thread is
//! suspended by CLONE_VFORK, so it can report a failure by writing into the caller's memory. It makes
//! bare system calls only: libc's own `setuid` family would signal the threads of the agent.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::process::Pid;

use super::limit;

/// Stack of a child, in bytes (64 KiB): its frames are small, but a signal frame with AVX-512 state must fit too.
const STACK: usize = 64 * 1024;

/// Everything a child needs, made ready before there is one.
pub struct Plan {
    /// Paths to try in turn.
    pub programs: Vec<CString>,
    /// Arguments, the program's name first.
    pub arguments: Vec<CString>,
    /// `NAME=value` strings.
    pub environment: Vec<CString>,
    /// Working directory.
    pub directory: CString,
    /// Whether to start in `/` when the working directory does not exist.
    pub directory_optional: bool,
    /// Descriptors that become 0, 1 and 2; all at least 3.
    pub stdio: [RawFd; 3],
    /// Descriptor that becomes the controlling terminal; None = there is none.
    pub terminal: Option<RawFd>,
    /// User to become; None = stay.
    pub identity: Option<Identity>,
}

/// User and groups of a child.
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// The step at which a child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No child could be made.
    Clone,
    /// Its session, terminal or descriptors.
    Setup,
    /// Its user or groups.
    Identity,
    /// Its working directory.
    Directory,
    /// Its program.
    Execute,
}

/// Why there is no process: the step and its errno. The program never ran.
#[derive(Debug, thiserror::Error)]
#[error("{step:?}: {errno}")]
pub struct CloneError {
    /// Where it failed.
    pub step: Step,
    /// Why.
    pub errno: Errno,
}

static FILE_LIMIT: OnceLock<libc::rlimit> = OnceLock::new();

/// Sets the limit on open files that processes get, as the agent raises its own.
pub fn remember_file_limit(soft: u64, hard: u64) {
    // A second call would come from a second boot, which there is none of.
    let _ = FILE_LIMIT.set(libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    });
}

struct Job<'a> {
    plan: &'a Plan,
    argv: *const *const c_char,
    envp: *const *const c_char,
    file_limit: Option<&'a libc::rlimit>,
    group: Option<RawFd>,
    ignored: &'static [c_int],
    failure: Option<(Step, c_int)>,
}

/// Starts the program in a session of its own. Returns once it executes, or with the reason it cannot.
///
/// Blocks the calling thread from the clone to the exec. A child that failed is reaped here.
pub fn start(plan: &Plan) -> Result<Pid, CloneError> {
    // One stack for all: children are started one at a time.
    static STACK_MEMORY: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let mut stack = STACK_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if stack.is_empty() {
        stack.resize(STACK, 0);
    }
    let argv = pointers(&plan.arguments);
    let envp = pointers(&plan.environment);
    let mut job = Job {
        plan,
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        file_limit: FILE_LIMIT.get(),
        group: limit::members(),
        ignored: ignored(),
        failure: None,
    };
    let top = stack.as_mut_ptr_range().end;
    let top = top.wrapping_sub(top as usize % 16);
    // SAFETY: signals are blocked, so no handler runs on the child's small stack or in the shared
    // memory on its behalf. `top` is the 16-aligned end of a live stack that this call owns under the
    // lock. CLONE_VFORK suspends this thread until the child has executed or exited, so `job` and what it
    // points to outlive the child's use of them.
    let (pid, errno) = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(child, top.cast(), flags, ptr::from_mut(&mut job).cast());
        let errno = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut());
        (pid, errno)
    };
    drop(stack);
    let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Err(CloneError {
            step: Step::Clone,
            errno: Errno::from_raw_os_error(errno),
        });
    };
    // SAFETY: `job.failure` was written, if at all, by the child, which is gone or executes now. The read is volatile
    // because the compiler cannot see that write.
    let failure = unsafe { ptr::read_volatile(&raw const job.failure) };
    match failure {
        None => Ok(pid),
        Some((step, errno)) => {
            // Nobody else knows this pid yet, so nobody else waits for it.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(CloneError {
                step,
                errno: Errno::from_raw_os_error(errno),
            })
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Job` of the suspended caller; nothing else refers to it meanwhile.
    let job = unsafe { &mut *argument.cast::<Job<'_>>() };
    // SAFETY: runs in the child only, before its exec.
    let failure = unsafe { execute(job) };
    // SAFETY: `job` is live as above; volatile because the caller reads it from another process.
    unsafe { ptr::write_volatile(&raw mut job.failure, Some(failure)) };
    // SAFETY: ends the child without running the agent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Becomes the program; returns only on failure, with the step and its errno.
///
/// # Safety
/// Must run in a child of [`start`]: it changes the process for good.
unsafe fn execute(job: &Job<'_>) -> (Step, c_int) {
    let plan = job.plan;
    // SAFETY: bare system calls on descriptors, strings and arrays that the suspended caller keeps alive.
    unsafe {
        if libc::syscall(libc::SYS_setsid) < 0 {
            return (Step::Setup, errno());
        }
        let default: KernelAction = [0; 4];
        for signal in job.ignored {
            libc::syscall(
                libc::SYS_rt_sigaction,
                *signal,
                &raw const default,
                ptr::null::<KernelAction>(),
                8,
            );
        }
        if let Some(group) = job.group
            && libc::write(group, c"0".as_ptr().cast(), 1) < 0
        {
            return (Step::Setup, errno());
        }
        for (target, source) in (0..).zip(plan.stdio) {
            if libc::dup2(source, target) < 0 {
                return (Step::Setup, errno());
            }
        }
        if let Some(terminal) = plan.terminal
            && libc::ioctl(terminal, libc::TIOCSCTTY, 0) < 0
        {
            return (Step::Setup, errno());
        }
        if let Some(limit) = job.file_limit {
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        if let Some(identity) = &plan.identity {
            let groups = identity.groups.as_ptr();
            let (uid, gid) = (identity.uid, identity.gid);
            if libc::syscall(libc::SYS_setgroups, identity.groups.len(), groups) < 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) < 0
            {
                return (Step::Identity, errno());
            }
        }
        if libc::chdir(plan.directory.as_ptr()) < 0 {
            let reason = errno();
            let fallback = plan.directory_optional && libc::chdir(c"/".as_ptr()) == 0;
            if !fallback {
                return (Step::Directory, reason);
            }
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        let mut reason = libc::ENOENT;
        for program in &plan.programs {
            libc::execve(program.as_ptr(), job.argv, job.envp);
            match errno() {
                // As a shell does: go on along PATH, but remember a program that may not be run.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => reason = libc::EACCES,
                other => return (Step::Execute, other),
            }
        }
        (Step::Execute, reason)
    }
}

/// The kernel's `struct sigaction`: handler, flags, restorer, mask; all zero is the default. libc's own wrapper refuses
/// signals 32 and 33, which may be inherited ignored all the same.
type KernelAction = [usize; 4];

/// Signals the agent ignores (SIGPIPE, and what it inherited). An exec resets caught signals but keeps ignored ones.
fn ignored() -> &'static [c_int] {
    static IGNORED: OnceLock<Vec<c_int>> = OnceLock::new();
    IGNORED.get_or_init(|| {
        (1..=64)
            .filter(|&signal| {
                let mut action: KernelAction = [0; 4];
                let nothing = ptr::null::<KernelAction>();
                // SAFETY: a null new action only reads the old one into `action`, which is as large as the kernel's.
                let outcome = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, nothing, &raw mut action, 8) };
                outcome == 0 && action[0] == libc::SIG_IGN
            })
            .collect()
    })
}

fn errno() -> c_int {
    // SAFETY: the thread's errno is always there.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    fn plan(programs: &[&str], arguments: &[&str], stdio: [RawFd; 3]) -> Plan {
        Plan {
            programs: programs.iter().map(|program| c(program)).collect(),
            arguments: arguments.iter().map(|argument| c(argument)).collect(),
            environment: vec![c("A=1")],
            directory: c("/"),
            directory_optional: false,
            stdio,
            terminal: None,
            identity: None,
        }
    }

    fn null() -> (File, [RawFd; 3]) {
        let file = File::options().read(true).write(true).open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        (file, [fd, fd, fd])
    }

    #[test]
    fn runs_a_program_in_its_own_session() {
        let (null, _) = null();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let stdio = [null.as_raw_fd(), writer.as_raw_fd(), null.as_raw_fd()];
        let script = "read -r _ _ _ _ pgrp session _ < /proc/self/stat; echo $A $pgrp $session $$";
        let pid = start(&plan(&["/nowhere/sh", "/bin/sh"], &["sh", "-c", script], stdio)).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let pid = pid.as_raw_nonzero();
        assert_eq!(text, format!("1 {pid} {pid} {pid}\n"));
    }

    #[test]
    fn reports_the_step_and_the_errno() {
        let (_file, stdio) = null();
        let good = || plan(&["/bin/true"], &["true"], stdio);
        let mut lost = good();
        lost.directory = c("/no/such/place");
        let mut bad_stdio = good();
        bad_stdio.stdio = [9999, 9999, 9999];
        let cases = [
            (plan(&["/nowhere/x"], &["x"], stdio), Step::Execute, Errno::NOENT),
            (plan(&["/etc/passwd"], &["x"], stdio), Step::Execute, Errno::ACCESS),
            (plan(&["/etc"], &["x"], stdio), Step::Execute, Errno::ACCESS),
            (lost, Step::Directory, Errno::NOENT),
            (bad_stdio, Step::Setup, Errno::BADF),
        ];
        for (plan, step, errno) in cases {
            let error = start(&plan).unwrap_err();
            assert_eq!((error.step, error.errno), (step, errno), "{error}");
        }
    }

    #[test]
    fn an_optional_directory_may_be_missing() {
        let (_file, stdio) = null();
        let mut plan = plan(&["/bin/true"], &["true"], stdio);
        plan.directory = c("/no/such/place");
        plan.directory_optional = true;
        assert!(start(&plan).is_ok());
    }
}
