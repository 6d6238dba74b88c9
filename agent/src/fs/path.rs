//! From the path text a client sends to the absolute path the agent acts on.
//!
//! Pure: nothing here touches the file system, so symbolic links are not resolved and `..` is
//! removed lexically. Confinement is not a goal (the sandbox user may become root); a clean error
//! for every odd input is.

use std::path::{Path, PathBuf};

/// Longest accepted path in bytes: Linux `PATH_MAX` less its terminating NUL.
pub const MAX_PATH_BYTES: usize = 4095;
/// Longest accepted path component in bytes (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;

/// Why a path text was refused. Every case is the client's mistake (`invalid_argument`, HTTP 400).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// The text holds a NUL, which no Linux path can.
    #[error("path holds a NUL byte")]
    Nul,
    /// The text holds a line break: legal on Linux, but always a caller's quoting mistake.
    #[error("path holds a line break")]
    LineBreak,
    /// The resolved path is longer than [`MAX_PATH_BYTES`].
    #[error("path is {0} bytes long, the limit is {MAX_PATH_BYTES}")]
    TooLong(usize),
    /// One component is longer than [`MAX_NAME_BYTES`].
    #[error("path has a name of {0} bytes, the limit is {MAX_NAME_BYTES}")]
    NameTooLong(usize),
    /// `~name` for another user than the requesting one.
    #[error("cannot expand user-specific home dir in '{0}': use '~/' or an absolute path")]
    OtherHome(String),
    /// More `..` than there are directories above.
    #[error("path '{0}' climbs above the root directory")]
    AboveRoot(String),
}

/// Resolves `raw` to an absolute path without `.`, `..`, repeated or trailing slashes.
///
/// Args:
/// * `raw`: what the client sent. Empty means `workdir`, or `home` without one.
/// * `home`: the requesting user's home directory, absolute. `~`, `~/x` and relative paths are
///   based on it.
/// * `workdir`: the default directory from `/init`, used for an empty `raw` only.
///
/// # Errors
/// [`PathError`] when the text cannot name a file; see its cases.
pub fn resolve(raw: &str, home: &Path, workdir: Option<&str>) -> Result<PathBuf, PathError> {
    let raw = match (raw, workdir) {
        ("", Some(dir)) => dir,
        _ => raw,
    };
    if raw.contains('\0') {
        return Err(PathError::Nul);
    }
    if raw.contains(['\n', '\r']) {
        return Err(PathError::LineBreak);
    }
    if raw.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong(raw.len()));
    }
    let joined = match raw.strip_prefix('~') {
        None if raw.starts_with('/') => PathBuf::from(raw),
        None => home.join(raw),
        Some("") => home.to_path_buf(),
        Some(rest) => match rest.strip_prefix('/') {
            Some(below) => home.join(below.trim_start_matches('/')),
            None => return Err(PathError::OtherHome(raw.to_owned())),
        },
    };
    clean(&joined, raw)
}

fn clean(path: &Path, raw: &str) -> Result<PathBuf, PathError> {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Component;

    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) if name.as_bytes().len() > MAX_NAME_BYTES => {
                return Err(PathError::NameTooLong(name.as_bytes().len()));
            }
            Component::Normal(name) => out.push(name),
            Component::ParentDir if !out.pop() => {
                return Err(PathError::AboveRoot(raw.to_owned()));
            }
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let length = out.as_os_str().len();
    if length > MAX_PATH_BYTES {
        return Err(PathError::TooLong(length));
    }
    Ok(out)
}

/// The last component of a resolved path as text, `/` for the root directory. Bytes that are not
/// UTF-8 become U+FFFD, since the wire carries text only.
pub fn base_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(raw: &str) -> Result<PathBuf, PathError> {
        resolve(raw, Path::new("/home/user"), None)
    }

    #[test]
    fn accepted_paths() {
        for (raw, want) in [
            ("", "/home/user"),
            ("~", "/home/user"),
            ("~/", "/home/user"),
            ("~//a", "/home/user/a"),
            ("~/a b", "/home/user/a b"),
            ("a", "/home/user/a"),
            ("./a/./b/", "/home/user/a/b"),
            ("../x", "/home/x"),
            ("/", "/"),
            ("//etc///passwd", "/etc/passwd"),
            ("/a/../b", "/b"),
            ("a~b", "/home/user/a~b"),
            ("/tmp/~", "/tmp/~"),
            ("ünï/文", "/home/user/ünï/文"),
            ("...", "/home/user/..."),
        ] {
            assert_eq!(home(raw), Ok(PathBuf::from(want)), "{raw:?}");
        }
    }

    #[test]
    fn workdir_is_used_for_an_empty_path_only() {
        let at = |raw| resolve(raw, Path::new("/home/user"), Some("/srv"));
        assert_eq!(at(""), Ok(PathBuf::from("/srv")));
        assert_eq!(at("x"), Ok(PathBuf::from("/home/user/x")));
    }

    #[test]
    fn refused_paths() {
        let long_name = "n".repeat(256);
        let long_path = "/d".repeat(2048);
        for (raw, want) in [
            ("a\0b", PathError::Nul),
            ("a\nb", PathError::LineBreak),
            ("a\r", PathError::LineBreak),
            ("~root/x", PathError::OtherHome("~root/x".into())),
            ("/..", PathError::AboveRoot("/..".into())),
            ("../../../etc", PathError::AboveRoot("../../../etc".into())),
            (long_name.as_str(), PathError::NameTooLong(256)),
            (long_path.as_str(), PathError::TooLong(4096)),
        ] {
            assert_eq!(home(raw), Err(want), "{raw:?}");
        }
    }

    #[test]
    fn a_path_that_grows_past_the_limit_by_its_home_is_refused() {
        let raw = "d/".repeat(2045);
        assert!(matches!(home(&raw), Err(PathError::TooLong(_))));
    }

    #[test]
    fn names() {
        assert_eq!(base_name(Path::new("/")), "/");
        assert_eq!(base_name(Path::new("/a/b")), "b");
    }

    #[test]
    fn random_texts_never_panic_and_results_are_clean() {
        let mut seed = 0x5eed_u64;
        let alphabet: Vec<char> = "/..~ab\0\n é\u{fffd}".chars().collect();
        for _ in 0..20_000 {
            let mut raw = String::new();
            for _ in 0..(next(&mut seed) % 24) {
                let pick = usize::try_from(next(&mut seed) % alphabet.len() as u64).unwrap_or(0);
                raw.push(alphabet[pick]);
            }
            if let Ok(path) = home(&raw) {
                let text = path.to_string_lossy().into_owned();
                assert!(text.starts_with('/'), "{raw:?} -> {text:?}");
                assert!(!text.contains("//") && !text.contains('\n'), "{raw:?}");
                assert!(text.split('/').all(|name| name != ".." && name != "."));
                assert_eq!(home(&text), Ok(path), "resolving twice changes nothing");
            }
        }
    }

    /// xorshift64: a fixed seed keeps a failure reproducible without a dependency.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }
}
