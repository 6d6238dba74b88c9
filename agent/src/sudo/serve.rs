//! PID 1's socket: who connects, and a task for each.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::{SOCKET, SWITCH, session};
use crate::state::Agent;

/// Commands at once; more wait in the kernel's backlog.
const MAX_CALLS: usize = 512;
/// Pause after a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes the socket's name when the agent is told to offer sudo (`ATOLL_SUDO=1`).
pub fn listen() -> io::Result<Option<UnixListener>> {
    if std::env::var_os(SWITCH).is_none_or(|value| value != "1") {
        return Ok(None);
    }
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(SOCKET)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(Some)
}

/// Serves callers until the future is dropped.
pub async fn serve(listener: UnixListener, agent: Arc<Agent>) {
    let permits = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = Arc::clone(&agent);
                tokio::spawn(async move {
                    // A caller that goes away half-way is nobody's loss: what it started is ended in there.
                    let _ = session::run(stream, &agent).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
