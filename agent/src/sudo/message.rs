//! What goes over the socket.
//!
//! PID 1 says [`HELLO`]; the client sends the request's length (4 bytes, little-endian) together with its descriptors,
//! then the request. Answers are frames: a kind, a length (4 bytes), that many bytes. After [`STARTED`] the client may
//! send numbers of signals, a byte each.

use std::io;

use super::options::Mode;

/// Said when the kernel has been told to name the sender of each message.
pub const HELLO: u8 = b'a';
/// Frame: the command runs.
pub const STARTED: u8 = b's';
/// Frame: it ended, with its wait status (4 bytes).
pub const ENDED: u8 = b'e';
/// Frame: a line for the user, and exit code 1.
pub const REFUSED: u8 = b'r';
/// Frame: a text for the user, and exit code 0.
pub const ANSWER: u8 = b't';

/// Bytes of a frame before its content.
pub const FRAME_HEAD: usize = 5;
/// Largest request, in bytes (3 MiB): as much as the kernel lets a program have as arguments and environment.
pub const MAX_REQUEST: usize = 3 * 1024 * 1024;
/// Most descriptors with a request: the standard ones, and a terminal.
pub const MAX_DESCRIPTORS: usize = 4;

/// What a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub mode: Mode,
    /// Target user: a name or `#uid`; empty = root, or the caller when there is a group.
    pub user: Vec<u8>,
    /// Target group: a name or `#gid`; empty = the user's own.
    pub group: Vec<u8>,
    /// Where the caller is.
    pub directory: Vec<u8>,
    /// Whether it must be possible to start there.
    pub directory_asked: bool,
    /// Whether to keep the whole environment.
    pub keep_all: bool,
    /// Whether HOME is the target's even so.
    pub set_home: bool,
    /// Whether the command goes on without the client.
    pub background: bool,
    /// Names of variables to keep.
    pub keep: Vec<Vec<u8>>,
    /// `NAME=value` set for the command.
    pub assignments: Vec<Vec<u8>>,
    /// The command.
    pub command: Vec<Vec<u8>>,
    /// The caller's environment, `NAME=value`.
    pub environment: Vec<Vec<u8>>,
}

impl Request {
    /// Strings that end in NUL, lists preceded by their length.
    pub fn encode(&self) -> Vec<u8> {
        let flags = [
            mode_letter(self.mode),
            letter(self.directory_asked),
            letter(self.keep_all),
            letter(self.set_home),
            letter(self.background),
        ];
        let mut out = Vec::new();
        for single in [&flags[..], &self.user, &self.group, &self.directory] {
            push(&mut out, single);
        }
        for list in [&self.keep, &self.assignments, &self.command, &self.environment] {
            push(&mut out, list.len().to_string().as_bytes());
            for item in list {
                push(&mut out, item);
            }
        }
        out
    }

    /// The other way round; None = it is no request.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut strings = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let flags: [u8; 5] = strings.next()?.try_into().ok()?;
        let mut single = || strings.next().map(<[u8]>::to_vec);
        let (user, group, directory) = (single()?, single()?, single()?);
        let mut list = || {
            let count: usize = std::str::from_utf8(strings.next()?).ok()?.parse().ok()?;
            // Not reserved: the count is only a claim.
            let items: Vec<_> = strings.by_ref().take(count).map(<[u8]>::to_vec).collect();
            (items.len() == count).then_some(items)
        };
        let request = Self {
            mode: mode_of(flags[0])?,
            user,
            group,
            directory,
            directory_asked: flags[1] == b'1',
            keep_all: flags[2] == b'1',
            set_home: flags[3] == b'1',
            background: flags[4] == b'1',
            keep: list()?,
            assignments: list()?,
            command: list()?,
            environment: list()?,
        };
        strings.next().is_none().then_some(request)
    }
}

/// A whole frame.
pub fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(u32::try_from(content.len()).unwrap_or(0).to_le_bytes());
    out.extend(content);
    out
}

/// Takes the first whole frame out of `buffer`.
pub fn take_frame(buffer: &mut Vec<u8>) -> io::Result<Option<(u8, Vec<u8>)>> {
    let Some((head, _)) = buffer.split_first_chunk::<FRAME_HEAD>() else {
        return Ok(None);
    };
    let [kind, length @ ..] = *head;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if buffer.len() < FRAME_HEAD + length {
        return Ok(None);
    }
    let content = buffer.drain(..FRAME_HEAD + length).skip(FRAME_HEAD).collect();
    Ok(Some((kind, content)))
}

const MODES: [(Mode, u8); 5] = [
    (Mode::Command, b'c'),
    (Mode::Shell, b's'),
    (Mode::Login, b'i'),
    (Mode::List, b'l'),
    (Mode::Validate, b'v'),
];

fn mode_letter(mode: Mode) -> u8 {
    MODES
        .iter()
        .find(|(known, _)| *known == mode)
        .map_or(b'?', |(_, letter)| *letter)
}

fn mode_of(letter: u8) -> Option<Mode> {
    MODES.iter().find(|(_, known)| *known == letter).map(|(mode, _)| *mode)
}

fn letter(flag: bool) -> u8 {
    if flag { b'1' } else { b'0' }
}

fn push(out: &mut Vec<u8>, string: &[u8]) {
    // What comes from a command line has no NUL; one that came in otherwise would shift all that follows.
    out.extend(string.iter().filter(|byte| **byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            mode: Mode::Shell,
            user: b"www".to_vec(),
            directory: b"/tmp/\xff".to_vec(),
            keep_all: true,
            background: true,
            assignments: vec![b"A=1".to_vec()],
            command: vec![b"x".to_vec(), b"".to_vec(), b"\xfe y".to_vec()],
            environment: vec![b"B=".to_vec()],
            ..Request::default()
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        for request in [request(), Request::default()] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn hostile_bytes_are_no_request() {
        let whole = request().encode();
        for end in 0..whole.len() {
            assert_eq!(Request::decode(&whole[..end]), None, "{end}");
        }
        for bytes in [
            b"".as_slice(),
            b"\0",
            b"c0000\x00\x00\x00\x00999999999999\x00",
            b"c0000\x00\x00\x00\x00-1\x00\x00\x00\x00",
            b"x0000\x00\x00\x00\x000\x000\x000\x000\x00",
            b"c0000\x00\x00\x00\x000\x000\x000\x000\x00more\x00",
        ] {
            assert_eq!(Request::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn frames_are_taken_whole() {
        let mut buffer = frame(ENDED, b"1234");
        buffer.extend(frame(STARTED, b""));
        let last = buffer.pop().unwrap();
        assert_eq!(take_frame(&mut buffer).unwrap(), Some((ENDED, b"1234".to_vec())));
        assert_eq!(take_frame(&mut buffer).unwrap(), None);
        buffer.push(last);
        assert_eq!(take_frame(&mut buffer).unwrap(), Some((STARTED, vec![])));
        assert!(take_frame(&mut vec![ENDED, 255, 255, 255, 255]).is_err());
    }
}
