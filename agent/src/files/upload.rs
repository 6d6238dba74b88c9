//! `POST /files`: one raw file, or a form of many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use serde::Serialize;

use super::body::{decoded, drain};
use super::encoding::{self, Coding};
use super::error::FileError;
use super::multipart::Multipart;
use super::pump::pump;
use super::scope::Scope;
use super::sink::Sink;
use crate::fs::metadata;
use crate::fs::path::base_name;

/// Header prefix of metadata; the rest of the header's name is the key.
const METADATA_PREFIX: &str = "x-metadata-";

/// One uploaded file, as the answer names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uploaded {
    path: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl Uploaded {
    /// The answer for a regular file at `path`.
    pub fn new(path: &Path, metadata: BTreeMap<String, String>) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            name: base_name(path),
            kind: "file",
            metadata,
        }
    }
}

/// What an upload's headers say.
#[derive(Debug)]
struct Head {
    coding: Coding,
    length: Option<u64>,
    metadata: BTreeMap<String, String>,
    /// The multipart boundary; `None` for a raw body.
    boundary: Option<String>,
}

/// Stores the request's `body` for `scope` and says what was stored, in order.
///
/// A raw body (`application/octet-stream`) goes to `path`; of a form, each part named `file` goes to
/// `path` when given, else to its file name. Parents are made, existing files overwritten in place.
/// What arrived before an error stays.
///
/// # Errors
/// [`FileError`]; the rest of the body has been taken by then, unless the client left.
pub async fn upload<S>(
    mut body: S,
    headers: &HeaderMap,
    path: Option<&str>,
    scope: &Scope,
) -> Result<Vec<Uploaded>, FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let stored = match read_head(headers) {
        Err(error) => Err(error),
        Ok(head) => match (&head.boundary, head.coding) {
            (None, _) => raw(&mut body, &head, path, scope).await,
            (Some(boundary), Coding::Identity) => form(&mut body, boundary, &head, path, scope).await,
            (Some(boundary), Coding::Gzip) => form(&mut decoded(&mut body), boundary, &head, path, scope).await,
        }
        .map_err(|error| error.with_length(head.length)),
    };
    // Also what follows a form's last boundary or a packed body's end, and be it only the last chunk: a connection whose
    // request was not read to its end is closed after the answer, when the next request may be under way on it.
    drain(&mut body, u64::MAX).await;
    stored
}

async fn raw<S>(body: &mut S, head: &Head, path: Option<&str>, scope: &Scope) -> Result<Vec<Uploaded>, FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let path =
        path.ok_or_else(|| FileError::BadRequest("path query parameter is required for raw body upload".to_owned()))?;
    let path = scope.path(path)?;
    store(body, &path, head.coding, head, scope).await?;
    Ok(vec![Uploaded::new(&path, head.metadata.clone())])
}

async fn form<S>(
    body: &mut S,
    boundary: &str,
    head: &Head,
    path: Option<&str>,
    scope: &Scope,
) -> Result<Vec<Uploaded>, FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let mut parts = Multipart::new(body, boundary)?;
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(part) = parts.next_part().await? {
        if part.name != "file" {
            continue;
        }
        let named = path.or(part.filename.as_deref()).unwrap_or_default();
        if named.is_empty() {
            return Err(FileError::BadRequest(
                "a file part has no filename, and there is no path query parameter".to_owned(),
            ));
        }
        let resolved = scope.path(named)?;
        if paths.contains(&resolved) {
            return Err(FileError::BadRequest(format!(
                "you cannot upload multiple files to the same path '{}' in one upload request, \
                 only the first specified file was uploaded",
                resolved.display()
            )));
        }
        store(&mut parts, &resolved, Coding::Identity, head, scope).await?;
        paths.push(resolved);
    }
    Ok(paths
        .iter()
        .map(|path| Uploaded::new(path, head.metadata.clone()))
        .collect())
}

async fn store<S>(body: &mut S, path: &Path, coding: Coding, head: &Head, scope: &Scope) -> Result<(), FileError>
where
    S: Stream<Item = Result<Bytes, FileError>> + Unpin,
{
    let opening = {
        let (path, metadata, owner) = (path.to_path_buf(), head.metadata.clone(), scope.owner());
        tokio::task::spawn_blocking(move || Sink::open(&path, owner, coding, &metadata))
    };
    let sink = opening
        .await
        .map_err(|panicked| FileError::io("error opening file", path, std::io::Error::other(panicked)))??;
    pump(body, sink).await?;
    Ok(())
}

fn read_head(headers: &HeaderMap) -> Result<Head, FileError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(&CONTENT_TYPE).unwrap_or_default();
    let metadata = read_metadata(headers)?;
    metadata::validate(&metadata)?;
    Ok(Head {
        coding: encoding::content(text(&CONTENT_ENCODING))?,
        length: text(&CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        boundary: boundary(content_type)?,
        metadata,
    })
}

/// The boundary of a multipart content type, `None` for a raw body.
fn boundary(content_type: &str) -> Result<Option<String>, FileError> {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if kind == "application/octet-stream" {
        return Ok(None);
    }
    if !kind.starts_with("multipart/") {
        return Err(FileError::BadRequest(format!(
            "unsupported content type: '{}', expected multipart/form-data or application/octet-stream",
            content_type.escape_default()
        )));
    }
    let value = parts
        .filter_map(|part| part.split_once('='))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("boundary").then_some(value))
        .ok_or_else(|| FileError::BadRequest("the multipart content type has no boundary".to_owned()))?;
    Ok(Some(value.trim_matches('"').to_owned()))
}

/// Of a header sent more than once the first value counts; an empty key is ignored.
fn read_metadata(headers: &HeaderMap) -> Result<BTreeMap<String, String>, FileError> {
    let mut pairs = BTreeMap::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(METADATA_PREFIX) else {
            continue;
        };
        if let (false, Some(value)) = (key.is_empty(), headers.get(name)) {
            let value = value.to_str().map_err(|_| {
                FileError::BadRequest(format!("the value of metadata '{key}' must be printable US-ASCII"))
            })?;
            pairs.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(pairs)
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
