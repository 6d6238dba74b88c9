//! The client: what runs as `sudo`, with no more rights than its caller.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;

use super::message::{self, Request};
use super::options::{self, Mode, Options, USAGE};
use super::relay::Relay;
use super::signals::{self, Signals};
use super::{SOCKET, SWITCH};

/// How long a terminal may still give output after the command ended: not every kernel reports its closing.
const LAST_OUTPUT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Whether the program was called by the name of sudo.
pub fn is_called() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name)
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"sudo"))
}

/// Runs as sudo. Exit code: the command's; 1 when there was none.
pub fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("sudo: {error}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match options.mode {
        Mode::Help => {
            println!("sudo - execute a command as another user\n{USAGE}");
            return ExitCode::SUCCESS;
        }
        Mode::Version => {
            println!("sudo of atoll-agent {}", crate::VERSION);
            return ExitCode::SUCCESS;
        }
        Mode::Forget => return ExitCode::SUCCESS,
        _ => {}
    }
    match call(options) {
        Ok(End::Code(code)) => ExitCode::from(code),
        Ok(End::Signal(signal)) => {
            signals::die_of(signal);
            ExitCode::from(128u8.wrapping_add(u8::try_from(signal).unwrap_or(0)))
        }
        Ok(End::Refused(reason)) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sudo: the sandbox's agent does not answer: {error} (is it started with {SWITCH}=1?)");
            ExitCode::FAILURE
        }
    }
}

enum End {
    Code(u8),
    Signal(i32),
    Refused(String),
}

fn call(options: Options) -> io::Result<End> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(SOCKET)?)?;
    let mut hello = [0];
    stream.read_exact(&mut hello)?;
    let runs = !matches!(options.mode, Mode::List | Mode::Validate);
    let background = options.background;
    // A pipeline's other programs read the terminal too, so it is taken only when input and output are both on it.
    let relayed = runs && !background && isatty(stdin()) && isatty(stdout());
    let (mut relay, inner) = match relayed.then(Relay::open).transpose()? {
        Some((relay, inner)) => (Some(relay), Some(inner)),
        None => (None, None),
    };
    let held = Signals::hold()?;
    let bytes = request(options).encode();
    send_head(&stream, bytes.len(), inner.as_ref())?;
    drop(inner);
    match stream.write_all(&bytes) {
        // Who may not is told so before the request is read, and that answer waits here.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        outcome => outcome?,
    }
    let mut frames = Frames::default();
    match frames.read(&mut stream)? {
        (message::STARTED, _) => {}
        (message::REFUSED, content) => return Ok(End::Refused(String::from_utf8_lossy(&content).into_owned())),
        (message::ANSWER, content) => {
            io::stdout().write_all(&content)?;
            return Ok(End::Code(0));
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    if background {
        return Ok(End::Code(0));
    }
    if let Some(relay) = &mut relay {
        relay.take();
    }
    wait(&mut stream, &held, relay.as_mut(), &mut frames)
}

fn request(options: Options) -> Request {
    let asked = options.directory.is_some();
    let here = || std::env::current_dir().map_or_else(|_| b"/".to_vec(), |path| path.into_os_string().into_vec());
    Request {
        mode: options.mode,
        user: options.user.unwrap_or_default().into_bytes(),
        group: options.group.unwrap_or_default().into_bytes(),
        directory: options.directory.unwrap_or_else(here),
        directory_asked: asked,
        keep_all: options.keep_all,
        set_home: options.set_home,
        background: options.background,
        keep: options.keep.into_iter().map(String::into_bytes).collect(),
        assignments: options.assignments,
        command: options.command,
        environment: std::env::vars_os()
            .map(|(name, value)| [name.as_bytes(), value.as_bytes()].join(&b'='))
            .collect(),
    }
}

/// The length of the request, with the descriptors of the command.
fn send_head(stream: &UnixStream, length: usize, inner: Option<&OwnedFd>) -> io::Result<()> {
    let length = u32::try_from(length).map_err(|_| io::Error::from(Errno::TOOBIG))?;
    // What is closed here is /dev/null there.
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
    for own in [stdin(), stdout(), stderr()] {
        descriptors.push(match (inner, &null) {
            (Some(inner), _) if isatty(own) => inner.as_fd(),
            (_, Ok(null)) if rustix::io::fcntl_getfd(own) == Err(Errno::BADF) => null.as_fd(),
            _ => own,
        });
    }
    descriptors.extend(inner.map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(message::MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        stream,
        &[IoSlice::new(&length.to_le_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Attends to the running command until it ends.
fn wait(
    stream: &mut UnixStream,
    held: &Signals,
    mut relay: Option<&mut Relay>,
    frames: &mut Frames,
) -> io::Result<End> {
    loop {
        let (readable, none) = (PollFlags::IN, PollFlags::empty());
        let mut fds = vec![
            PollFd::from_borrowed_fd(stream.as_fd(), readable),
            PollFd::from_borrowed_fd(held.as_fd(), readable),
        ];
        let mut source = false;
        if let Some(relay) = &relay {
            let (inner, wants) = relay.inner();
            fds.push(PollFd::from_borrowed_fd(
                inner,
                if wants { readable | PollFlags::OUT } else { readable },
            ));
            if let Some(caller) = relay.source() {
                source = true;
                fds.push(PollFd::from_borrowed_fd(caller, readable));
            }
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            outcome => outcome?,
        };
        let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if let Some(relay) = relay.as_deref_mut() {
            // Linux stops no program that nobody in its session could continue; gVisor does, and Ctrl-C would not end it.
            // This continues the first program of the session only: one that a shell in it stopped stays stopped.
            if seen[2].contains(PollFlags::OUT) && relay.write_input() {
                stream.write_all(&[libc::SIGCONT as u8])?;
            }
            if seen[2].intersects(PollFlags::IN) {
                relay.copy_output();
            } else if seen[2].intersects(PollFlags::HUP | PollFlags::ERR) && seen[0] == none && seen[1] == none {
                // The command has closed its terminal but goes on: nothing but its end and signals is awaited.
                return wait(stream, held, None, frames);
            }
            if source && seen[3] != none {
                relay.read_input();
            }
        }
        if seen[1] != none {
            while let Some((signal, from_kernel)) = held.next() {
                // gVisor sends Ctrl-C's signal though the terminal passes it as a byte: the inner terminal makes its own.
                let passed = from_kernel
                    && relay.as_ref().is_some_and(|relay| relay.is_taken())
                    && matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP);
                if !passed {
                    pass_on(signal, stream, relay.as_deref_mut())?;
                }
            }
        }
        if seen[0] != none
            && let (message::ENDED, content) = frames.read(stream)?
        {
            if let Some(relay) = relay.as_deref_mut() {
                drain(relay);
            }
            return ended(&content);
        }
    }
}

fn pass_on(signal: i32, stream: &mut UnixStream, relay: Option<&mut Relay>) -> io::Result<()> {
    match signal {
        libc::SIGWINCH => {
            if let Some(relay) = relay {
                relay.resize();
            }
            stream.write_all(&[libc::SIGWINCH as u8])
        }
        libc::SIGTSTP => {
            // The command is alone in its session, where this signal has no effect: the one that cannot be caught has.
            stream.write_all(&[libc::SIGSTOP as u8])?;
            if let Some(relay) = relay {
                relay.give_back();
            }
            signals::stop_self();
            Ok(())
        }
        libc::SIGCONT => {
            if let Some(relay) = relay {
                relay.take();
                relay.resize();
            }
            stream.write_all(&[libc::SIGCONT as u8])
        }
        other => stream.write_all(&[u8::try_from(other).unwrap_or(0)]),
    }
}

/// Shows what the command wrote last.
fn drain(relay: &mut Relay) {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(relay.inner().0, PollFlags::IN)];
        let waited = poll(&mut fds, Some(&LAST_OUTPUT));
        let [seen] = fds.map(|fd| fd.revents());
        if waited == Err(Errno::INTR) {
            continue;
        }
        if !matches!(waited, Ok(count) if count > 0) || !seen.contains(PollFlags::IN) || !relay.copy_output() {
            return;
        }
    }
}

fn ended(content: &[u8]) -> io::Result<End> {
    let raw = content
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let status = i32::from_le_bytes(raw);
    Ok(if libc::WIFSIGNALED(status) {
        End::Signal(libc::WTERMSIG(status))
    } else {
        End::Code(libc::WEXITSTATUS(status) as u8)
    })
}

#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// Waits for the next frame.
    fn read(&mut self, stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = message::take_frame(&mut self.0)? {
                return Ok(frame);
            }
            let mut part = [0; 1024];
            match stream.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.0.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
