//! Envelopes: one flag byte, a big-endian u32 length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Code, Error};

/// Largest message in an envelope, in bytes (4 MiB); a larger one ends the stream with `resource_exhausted`.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes before the message.
pub const HEAD: usize = 5;
/// Flag of the last envelope of a stream.
pub const END: u8 = 0b10;
const COMPRESSED: u8 = 0b01;

/// One envelope.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whether it is the end frame.
    pub end: bool,
    /// The message.
    pub message: Bytes,
}

/// Takes the first envelope off `buffer`; None = not complete yet. The length is checked before any
/// of the message is awaited.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Envelope>, Error> {
    if buffer.len() < HEAD {
        return Ok(None);
    }
    let flags = buffer[0];
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if flags & COMPRESSED != 0 {
        return Err(Error::new(
            Code::Unimplemented,
            "compressed messages are not supported; send Connect-Content-Encoding: identity",
        ));
    }
    if flags & !END != 0 {
        return Err(Error::invalid(format!("unknown envelope flags {flags:#04x}")));
    }
    if length > MAX_MESSAGE {
        return Err(Error::new(
            Code::ResourceExhausted,
            format!("a message of {length} bytes is larger than {MAX_MESSAGE} bytes"),
        ));
    }
    if buffer.len() - HEAD < length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(Envelope {
        end: flags & END != 0,
        message: buffer.split_to(length).freeze(),
    }))
}

/// Appends an envelope whose message is what `write` appends.
pub fn put(out: &mut BytesMut, flags: u8, write: impl FnOnce(&mut BytesMut) -> Result<(), Error>) -> Result<(), Error> {
    let start = out.len();
    out.put_u8(flags);
    out.put_u32(0);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = u32::try_from(out.len() - start - HEAD)
        .map_err(|_| Error::internal("a message is larger than an envelope can hold"))?;
    out[start + 1..start + HEAD].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The end frame: `{}` or `{"error":{...}}`, always JSON.
pub fn end_frame(error: Option<&Error>) -> Bytes {
    let body = match error {
        None => b"{}".to_vec(),
        Some(error) => serde_json::json!({"error": error}).to_string().into_bytes(),
    };
    let mut out = BytesMut::with_capacity(HEAD + body.len());
    out.put_u8(END);
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(&body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_envelopes_only_when_whole() {
        let mut stream = BytesMut::new();
        put(&mut stream, 0, |out| {
            out.put_slice(b"abc");
            Ok(())
        })
        .unwrap();
        stream.extend_from_slice(&end_frame(None));
        let whole = stream.clone();
        for cut in 0..8 {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(take(&mut part).unwrap(), None, "{cut}");
            assert_eq!(part.len(), cut);
        }
        let first = take(&mut stream).unwrap().unwrap();
        assert_eq!((first.end, &first.message[..]), (false, &b"abc"[..]));
        let last = take(&mut stream).unwrap().unwrap();
        assert_eq!((last.end, &last.message[..]), (true, &b"{}"[..]));
        assert_eq!(take(&mut stream).unwrap(), None);
    }

    #[test]
    fn refuses_bad_heads() {
        for (head, code) in [
            ([1, 0, 0, 0, 1], Code::Unimplemented),
            ([4, 0, 0, 0, 1], Code::InvalidArgument),
            ([0x80, 0, 0, 0, 0], Code::InvalidArgument),
            ([0, 0, 0x40, 0, 1], Code::ResourceExhausted),
            ([0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted),
        ] {
            let mut buffer = BytesMut::from(&head[..]);
            assert_eq!(take(&mut buffer).unwrap_err().code, code, "{head:?}");
        }
    }

    #[test]
    fn a_message_that_fails_leaves_no_half_envelope() {
        let mut out = BytesMut::from(&b"before"[..]);
        let failed = put(&mut out, 0, |out| {
            out.put_slice(b"half");
            Err(Error::internal("no"))
        });
        assert!(failed.is_err());
        assert_eq!(&out[..], b"before");
    }
}
