//! `POST /files/compose`: join files that were uploaded in parts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::FileError;
use super::scope::Scope;
use super::upload::Uploaded;
use crate::fs::make_dir::ensure_dirs;
use crate::fs::ownership::Ownership;
use crate::fs::rename::temporary_beside;

/// The request's body.
#[derive(Debug, Deserialize)]
pub struct ComposeRequest {
    /// Files to join, in order; at least one.
    #[serde(default)]
    pub source_paths: Vec<String>,
    /// File to make of them.
    #[serde(default)]
    pub destination: String,
    /// User whose home relative paths start from and who owns the result.
    #[serde(default)]
    pub username: Option<String>,
}

/// Joins the files of `request` into its destination and removes them. The result is written beside
/// the destination and put in place by a rename, so a failure leaves both destination and sources as
/// they were. Blocks: run it on the blocking pool.
///
/// # Errors
/// [`FileError`]: no sources or destination, a source that is missing (404), not regular or the
/// destination itself (400), no space (507), or a failed call.
pub fn compose(request: &ComposeRequest, scope: &Scope) -> Result<Uploaded, FileError> {
    if request.source_paths.is_empty() {
        return Err(FileError::BadRequest("source_paths must not be empty".to_owned()));
    }
    if request.destination.is_empty() {
        return Err(FileError::BadRequest("destination is required".to_owned()));
    }
    let destination = scope.path(&request.destination)?;
    let mut sources = Vec::new();
    for raw in &request.source_paths {
        let source = scope.path(raw)?;
        if source == destination {
            let text = format!("source path '{raw}' cannot be the same as destination");
            return Err(FileError::BadRequest(text));
        }
        let found = std::fs::metadata(&source).map_err(|error| FileError::reading(&source, error))?;
        if !found.is_file() {
            return Err(FileError::NotRegular(source));
        }
        sources.push(source);
    }
    if destination.is_dir() {
        return Err(FileError::IsDirectory(destination));
    }
    if let Some(parent) = destination.parent() {
        ensure_dirs(parent, scope.owner())?;
    }
    let temporary = temporary_beside(&destination);
    let joined = join(&sources, &temporary, scope.owner()).and_then(|()| {
        std::fs::rename(&temporary, &destination)
            .map_err(|error| FileError::io("error renaming to", &destination, error))
    });
    if let Err(error) = joined {
        // The failure itself is the news; a temporary file that was never made cannot be removed.
        let _left = std::fs::remove_file(&temporary);
        return Err(error);
    }
    for source in &sources {
        match std::fs::remove_file(source) {
            // The same source may be named twice.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::io("error removing", source, error));
            }
            _ => {}
        }
    }
    Ok(Uploaded::new(&destination, std::collections::BTreeMap::new()))
}

fn join(sources: &[PathBuf], temporary: &Path, owner: Ownership) -> Result<(), FileError> {
    let failed = |error| FileError::io("error writing file", temporary, error);
    let mut out = File::create_new(temporary).map_err(failed)?;
    owner.give_open(&out).map_err(failed)?;
    for source in sources {
        let mut file = File::open(source).map_err(|error| FileError::reading(source, error))?;
        // In the kernel where it can (copy_file_range), so nothing passes through the agent.
        io::copy(&mut file, &mut out).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(dir: &Path, sources: &[&str], destination: &str) -> Result<Uploaded, FileError> {
        let request = ComposeRequest {
            source_paths: sources.iter().map(|&source| source.to_owned()).collect(),
            destination: destination.to_owned(),
            username: None,
        };
        compose(&request, &Scope::with_home(dir))
    }

    #[test]
    fn parts_are_joined_in_order_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("p1", vec![b'1'; 300_000]), ("p2", vec![b'2'; 5]), ("p3", vec![])] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        go(dir.path(), &["p1", "p2", "p3"], "new/whole").unwrap();
        let whole = std::fs::read(dir.path().join("new/whole")).unwrap();
        assert_eq!(whole.len(), 300_005);
        assert!(whole.ends_with(b"1122222"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn refusals_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for (sources, destination, want) in [
            (&[][..], "x", 400),
            (&["a"][..], "", 400),
            (&["a", "missing"][..], "x", 404),
            (&["a", "d"][..], "x", 400),
            (&["a"][..], "./a", 400),
            (&["a"][..], "d", 400),
            (&["a"][..], "a/x", 400),
            (&["a\n"][..], "x", 400),
        ] {
            let error = go(dir.path(), sources, destination).unwrap_err();
            assert_eq!(error.status(), want, "{sources:?} {destination}: {error}");
        }
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"a");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
