//! From the first instruction to serving, and to the end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::state::Agent;
use crate::{process, server};

/// Port the agent listens on, unless `ATOLL_AGENT_PORT` names another.
pub const DEFAULT_PORT: u16 = 49983;

/// Runs the agent until it is told to end.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(256 * 1024)
        .build()?;
    runtime.block_on(async {
        let port = match std::env::var("ATOLL_AGENT_PORT") {
            Ok(port) => port.parse().map_err(io::Error::other)?,
            Err(_) => DEFAULT_PORT,
        };
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
        let agent = Arc::new(Agent::default());
        tokio::spawn(process::reap(process::listen()?, Arc::clone(&agent)));
        server::serve(listener, agent).await;
        Ok(())
    })
}
