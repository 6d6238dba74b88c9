//! One caller, from its connection to the end of its command.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{Pid, WaitStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::message::{self, Request};
use super::options::Mode;
use super::start::Running;
use super::{policy, start};
use crate::log;
use crate::state::Agent;

/// A request must be there within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL for a command whose caller was killed.
const GRACE: Duration = Duration::from_secs(2);

/// Serves one caller.
pub async fn run(mut stream: UnixStream, agent: &Arc<Agent>) -> io::Result<()> {
    // Who sends is asked of each message, not of the connection: gVisor answers SO_PEERCRED with who asks.
    sockopt::set_socket_passcred(&stream, true)?;
    let asked = timeout(REQUEST_TIMEOUT, receive(&mut stream)).await??;
    let (permit, request, descriptors) = match asked {
        Ok(asked) => asked,
        Err(reason) => return answer(&mut stream, message::REFUSED, reason.as_bytes()).await,
    };
    match request.mode {
        Mode::Validate => return answer(&mut stream, message::ANSWER, b"").await,
        Mode::List => {
            return match start::list(&permit, &request) {
                Ok(text) => answer(&mut stream, message::ANSWER, text.as_bytes()).await,
                Err(reason) => answer(&mut stream, message::REFUSED, reason.as_bytes()).await,
            };
        }
        _ => {}
    }
    let started = start::start(agent, &permit, &request, &descriptors);
    // The command's ends are its own now: a reader must see their end when the command closes them.
    drop(descriptors);
    let running = match started {
        Ok(running) => running,
        Err(reason) => return answer(&mut stream, message::REFUSED, reason.as_bytes()).await,
    };
    let fields = [
        ("pid", running.pid.as_raw_nonzero().get().into()),
        ("user", permit.caller.name.as_str().into()),
    ];
    log::info("sudo", "command started", &fields);
    let background = request.background;
    drop((permit, request));
    let told = answer(&mut stream, message::STARTED, b"").await;
    if background {
        return told;
    }
    attend(stream, running).await
}

/// Passes signals on until the command ends. When the caller is gone first, the command is ended.
async fn attend(mut stream: UnixStream, running: Running) -> io::Result<()> {
    let Running { pid, mut exit } = running;
    let mut signals = [0; 16];
    loop {
        tokio::select! {
            // First, so that no signal goes to a process that is known to be gone.
            biased;
            status = &mut exit => return tell_end(&mut stream, status).await,
            read = stream.read(&mut signals) => match read {
                Ok(count) if count > 0 => {
                    for signal in signals[..count].iter().filter(|signal| (1..=64).contains(*signal)) {
                        send(pid, i32::from(*signal));
                    }
                }
                Ok(_) | Err(_) => break,
            },
        }
    }
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCONT] {
        send(pid, signal);
    }
    if timeout(GRACE, &mut exit).await.is_err() {
        send(pid, libc::SIGKILL);
    }
    Ok(())
}

async fn tell_end(stream: &mut UnixStream, status: Result<WaitStatus, oneshot::error::RecvError>) -> io::Result<()> {
    // Without a status the agent itself is ending.
    let raw = status.map_or(libc::SIGKILL, WaitStatus::as_raw);
    answer(stream, message::ENDED, &raw.to_le_bytes()).await
}

fn send(pid: Pid, signal: i32) {
    // SAFETY: touches no memory. The process is a child that has not been waited for, so the group is its own; a group
    // that has just ended only gives ESRCH.
    unsafe { libc::kill(-pid.as_raw_nonzero().get(), signal) };
}

async fn answer(stream: &mut UnixStream, kind: u8, content: &[u8]) -> io::Result<()> {
    stream.write_all(&message::frame(kind, content)).await
}

type Asked = (policy::Permit, Request, Vec<OwnedFd>);

/// Receives a request; the inner error is for the caller.
async fn receive(stream: &mut UnixStream) -> io::Result<Result<Asked, String>> {
    stream.write_all(&[message::HELLO]).await?;
    let (head, uid, descriptors) = stream.async_io(Interest::READABLE, || receive_head(stream)).await?;
    let permit = match policy::check(uid) {
        Ok(permit) => permit,
        Err(reason) => return Ok(Err(reason)),
    };
    let length = u32::from_le_bytes(head) as usize;
    if length > message::MAX_REQUEST {
        return Ok(Err("sudo: the arguments and variables are too large".to_owned()));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    let Some(request) = Request::decode(&bytes) else {
        return Ok(Err("sudo: the request was not understood".to_owned()));
    };
    Ok(Ok((permit, request, descriptors)))
}

/// The message that comes with the descriptors. Its sender's id is taken from the kernel; one without is refused.
fn receive_head(stream: &UnixStream) -> io::Result<([u8; 4], u32, Vec<OwnedFd>)> {
    let mut head = [0; 4];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(message::MAX_DESCRIPTORS), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut head)];
    let received = recvmsg(
        stream,
        &mut parts,
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let count = received.bytes;
    let (mut uid, mut descriptors) = (None, Vec::new());
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
            RecvAncillaryMessage::ScmCredentials(credentials) => uid = Some(credentials.uid.as_raw()),
            _ => {}
        }
    }
    // Only a program that means it sends descriptors along: a privileged one that was handed this socket as its output
    // does not.
    match uid {
        Some(uid) if count == head.len() && descriptors.len() >= 3 => Ok((head, uid, descriptors)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
