//! `GET /files`: from an open file to a response.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzEncoder;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, VARY,
};
use hyper::{HeaderMap, Response, StatusCode};

use super::chunks::{FileBody, Source};
use super::conditional::Validators;
use super::encoding::{self, Coding};
use super::error::FileError;
use super::media_type::{disposition, media_type};
use super::open::{Opened, open};
use super::range::{Selection, select};
use crate::fs::path::base_name;

/// Answers with the file at `path` (resolved), as the request's `headers` want it. Blocks: run it
/// on the blocking pool. The body it returns reads by itself.
///
/// 200 whole, 206 one range, 304 unchanged, 416 outside the file. gzip only for a whole,
/// unconditional answer: ranges and validators speak of the file's own bytes. For a client that
/// merely can read gzip, only when the file shrinks to half: packing what is packed already makes a
/// download ten times slower.
///
/// # Errors
/// [`FileError`]: missing, not a regular file, no acceptable coding, or a failed call.
pub fn download(path: &Path, headers: &HeaderMap) -> Result<Response<FileBody>, FileError> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let coding = encoding::accept(text(&ACCEPT_ENCODING))?;
    let opened = open(path)?;
    let validators = Validators::of(&opened.found);
    let wants_own_bytes = [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE]
        .iter()
        .any(|name| headers.contains_key(name));
    let mut response = if validators.not_modified(text(&IF_NONE_MATCH), text(&IF_MODIFIED_SINCE)) {
        status_only(StatusCode::NOT_MODIFIED)
    } else if coding == Coding::Gzip
        && !wants_own_bytes
        && (encoding::insists_on_gzip(text(&ACCEPT_ENCODING)) || gzip_pays(&opened.head))
    {
        compressed(path, opened)?
    } else {
        let range = text(&RANGE).filter(|_| validators.range_allowed(text(&IF_RANGE)));
        plain(path, opened, range)?
    };
    let compressed = response.headers().contains_key(CONTENT_ENCODING);
    let tag = if compressed {
        format!("W/{}", validators.etag)
    } else {
        validators.etag
    };
    set(&mut response, ETAG, &tag);
    set(&mut response, VARY, "Accept-Encoding");
    if let Some(modified) = validators.last_modified {
        set(&mut response, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
    Ok(response)
}

/// Whether the file's first bytes shrink to half or less.
fn gzip_pays(head: &[u8]) -> bool {
    let sample = &head[..head.len().min(16 * 1024)];
    let mut packed = Vec::with_capacity(sample.len());
    let mut encoder = GzEncoder::new(sample, Compression::fast());
    encoder.read_to_end(&mut packed).is_ok() && packed.len() <= sample.len() / 2
}

fn compressed(path: &Path, mut opened: Opened) -> Result<Response<FileBody>, FileError> {
    rewind(path, &mut opened, 0)?;
    let mut response = Response::new(FileBody::stream("", Source::gzip(opened.file), None));
    describe(&mut response, path, &opened.head);
    set(&mut response, CONTENT_ENCODING, "gzip");
    Ok(response)
}

fn plain(path: &Path, mut opened: Opened, range: Option<&str>) -> Result<Response<FileBody>, FileError> {
    let Some(length) = opened.length else {
        // Of unknown length: no ranges, and the end of the body is the end of the file.
        let mut response = Response::new(FileBody::whole(""));
        describe(&mut response, path, &opened.head);
        *response.body_mut() = FileBody::stream(opened.head, Source::Plain(opened.file), None);
        return Ok(response);
    };
    let (first, count, status) = match select(range, length) {
        Selection::Whole => (0, length, StatusCode::OK),
        Selection::Part { first, last } => (first, last - first + 1, StatusCode::PARTIAL_CONTENT),
        Selection::Unsatisfiable => {
            let mut response = status_only(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
            set(&mut response, ACCEPT_RANGES, "bytes");
            return Ok(response);
        }
    };
    let mut response = Response::new(FileBody::whole(""));
    describe(&mut response, path, &opened.head);
    *response.status_mut() = status;
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, CONTENT_LENGTH, &count.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let last = first + count - 1;
        set(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
    }
    *response.body_mut() = if opened.head.len() as u64 == length {
        let bytes = bytes::Bytes::from(opened.head);
        let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        FileBody::whole(bytes.slice(part(first)..part(first + count)))
    } else {
        rewind(path, &mut opened, first)?;
        FileBody::stream("", Source::Plain(opened.file), Some(count))
    };
    Ok(response)
}

fn rewind(path: &Path, opened: &mut Opened, to: u64) -> Result<(), FileError> {
    opened
        .file
        .seek(SeekFrom::Start(to))
        .map_err(|error| FileError::io("error seeking in file", path, error))?;
    Ok(())
}

fn describe(response: &mut Response<FileBody>, path: &Path, head: &[u8]) {
    set(response, CONTENT_TYPE, media_type(path, head));
    set(response, CONTENT_DISPOSITION, &disposition(&base_name(path)));
}

fn status_only(status: StatusCode) -> Response<FileBody> {
    let mut response = Response::new(FileBody::whole(""));
    *response.status_mut() = status;
    response
}

/// All values set here are visible ASCII by construction; one that is not is left out.
fn set(response: &mut Response<FileBody>, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
