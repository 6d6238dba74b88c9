//! The listener and its connections: HTTP/1.1 over TCP, bounded in number, in head size and in the
//! time a head may take.

mod io;
mod tracked;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use io::GuardedStream;
use io::Phase;
use tracked::Tracked;

use crate::router;
use crate::state::Agent;

/// Connections served at once; more wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 1024;
/// Most bytes hyper buffers of one connection (256 KiB): large reads are what makes uploads fast where system calls
/// are slow.
const MAX_BUFFER: usize = 256 * 1024;
/// Pause after a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections of `listener` until the future is dropped.
pub async fn serve(listener: TcpListener, agent: Arc<Agent>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = Arc::clone(&agent);
                tokio::spawn(async move {
                    connection(stream, agent).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, agent: Arc<Agent>) {
    // Frames of a stream must leave at once; without this, small ones wait for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let phase = Arc::new(Phase::default());
    let io = GuardedStream::new(stream, Arc::clone(&phase));
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        let guard = phase.begin();
        async move {
            let response = router::handle(agent, request).await;
            Ok::<_, Infallible>(response.map(|body| Tracked::new(body, guard)))
        }
    });
    // A client that closes is noticed by the end of its side of the connection, so half-closed
    // clients are not kept: a subscriber must never outlive its client.
    let served = http1::Builder::new()
        .half_close(false)
        .max_buf_size(MAX_BUFFER)
        .auto_date_header(false)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
    // Broken connections are the client's affair; nobody acts on them.
    drop(served);
}
