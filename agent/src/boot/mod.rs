//! From the first instruction to serving, and to the end.

mod descriptors;
mod mounts;
mod shutdown;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::state::Agent;
use crate::{ENVD_VERSION, GENERATION, VERSION, log, process, server, sudo};

/// Port the agent listens on, unless `ATOLL_AGENT_PORT` names another.
pub const DEFAULT_PORT: u16 = 49983;
/// Threads for file operations that may block; they end after being idle for [`BLOCKING_IDLE`].
const BLOCKING_THREADS: usize = 4;
const BLOCKING_IDLE: Duration = Duration::from_secs(2);
/// Stack of such a thread (256 KiB).
const BLOCKING_STACK: usize = 256 * 1024;

/// Runs the agent until it is told to end by SIGTERM or SIGINT. Argument `--version` only prints what it is.
pub fn run() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        return answer(&argument);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error("boot", "cannot start", &[("error", error.to_string().into())]);
            ExitCode::FAILURE
        }
    }
}

fn answer(argument: &str) -> ExitCode {
    if argument == "--version" {
        println!("atoll-agent {VERSION} generation {GENERATION} envd {ENVD_VERSION}");
        return ExitCode::SUCCESS;
    }
    eprintln!("atoll-agent: unknown argument '{argument}'; it takes none but --version");
    ExitCode::FAILURE
}

fn serve() -> io::Result<()> {
    // 1. As PID 1, what an image or a runtime left out is added.
    let agent = Arc::new(Agent::default());
    if agent.is_init {
        mounts::add_missing();
    }
    // 2. What a process would inherit is put in order before there is one.
    descriptors::secure()?;
    descriptors::raise_limit();
    adopt_orphans();
    // 3. From here on events are waited for, and nothing else.
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let children = process::listen()?;
        let mut told = shutdown::listen()?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port()?))).await?;
        tokio::spawn(process::reap(children, Arc::clone(&agent)));
        if let Some(calls) = sudo::listen()? {
            tokio::spawn(sudo::serve(calls, Arc::clone(&agent)));
        }
        log::info("boot", "serving", &[("port", listener.local_addr()?.port().into())]);
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&agent)));
        told.wait().await;
        // 4. No new work; then what runs is ended.
        serving.abort();
        shutdown::end_processes(&agent).await;
        Ok(())
    });
    // A thread that is stuck in a file system must not hold up the end.
    runtime.shutdown_background();
    outcome
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_stack_size(BLOCKING_STACK)
        .build()
}

fn port() -> io::Result<u16> {
    match std::env::var("ATOLL_AGENT_PORT") {
        Ok(text) => text
            .parse()
            .map_err(|_| io::Error::other(format!("ATOLL_AGENT_PORT is '{text}', not a port"))),
        Err(_) => Ok(DEFAULT_PORT),
    }
}

/// Orphans come to the agent even when it is not PID 1, so that none stays a zombie or survives it.
fn adopt_orphans() {
    // SAFETY: sets an attribute of this process; touches no memory.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}
