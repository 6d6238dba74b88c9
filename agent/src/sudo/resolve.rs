//! From a request to the program that is run.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::message::Request;
use super::options::Mode;
use crate::users::User;

/// A program and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: Vec<u8>,
    /// Arguments, the name first.
    pub arguments: Vec<Vec<u8>>,
}

impl Program {
    /// As SUDO_COMMAND has it: the file and the arguments, apart by spaces.
    pub fn line(&self) -> Vec<u8> {
        let mut line = self.path.clone();
        for argument in &self.arguments[1..] {
            line.push(b' ');
            line.extend(argument);
        }
        line
    }
}

/// What `request` wants run. The error is the line for the caller.
pub fn program(request: &Request, caller: &User, target: &User, path: &str) -> Result<Program, String> {
    match request.mode {
        Mode::Login => Ok(shell(target.shell.as_os_str().as_bytes(), true, &request.command)),
        Mode::Shell => {
            let own = request
                .environment
                .iter()
                .find_map(|entry| entry.strip_prefix(b"SHELL="));
            let own = own.filter(|own| own.starts_with(b"/"));
            let fallback = caller.shell.as_os_str().as_bytes();
            Ok(shell(own.unwrap_or(fallback), false, &request.command))
        }
        _ => {
            let name = request.command.first().ok_or("sudo: no command is named")?;
            let path = find(name, path, Path::new(OsStr::from_bytes(&request.directory)))
                .ok_or_else(|| format!("sudo: {}: command not found", String::from_utf8_lossy(name)))?;
            Ok(Program {
                path,
                arguments: request.command.clone(),
            })
        }
    }
}

/// A shell; with `command`, that command in it, every letter a shell might read otherwise escaped.
fn shell(path: &[u8], login: bool, command: &[Vec<u8>]) -> Program {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let dash: &[u8] = if login { b"-" } else { b"" };
    let mut arguments = vec![[dash, name].concat()];
    if !command.is_empty() {
        let mut line = Vec::new();
        for (place, argument) in command.iter().enumerate() {
            if place > 0 {
                line.push(b' ');
            }
            for &byte in argument {
                if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-' | b'$') {
                    line.push(b'\\');
                }
                line.push(byte);
            }
        }
        arguments.extend([b"-c".to_vec(), line]);
    }
    Program {
        path: path.to_vec(),
        arguments,
    }
}

/// The file `name` means: itself with a slash, else the first in `path` that is executable.
fn find(name: &[u8], path: &str, directory: &Path) -> Option<Vec<u8>> {
    let name = Path::new(OsStr::from_bytes(name));
    if name.as_os_str().as_bytes().contains(&b'/') {
        return is_program(&directory.join(name)).then(|| name.as_os_str().as_bytes().to_vec());
    }
    if name.as_os_str().is_empty() {
        return None;
    }
    path.split(':')
        .filter(|part| part.starts_with('/'))
        .map(|part| Path::new(part).join(name))
        .find(|candidate: &PathBuf| is_program(candidate))
        .map(|found| found.into_os_string().into_vec())
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(shell: &str) -> User {
        User {
            name: "x".to_owned(),
            uid: 1,
            gid: 1,
            groups: vec![1],
            home: "/".into(),
            shell: shell.into(),
        }
    }

    fn asked(mode: Mode, command: &[&str], environment: &[&str]) -> Result<String, String> {
        let bytes = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let request = Request {
            mode,
            directory: b"/bin".to_vec(),
            command: bytes(command),
            environment: bytes(environment),
            ..Request::default()
        };
        let program = program(
            &request,
            &user("/bin/caller"),
            &user("/bin/target"),
            "relative:/no:/bin",
        )?;
        let arguments = program.arguments.join(&b'|');
        Ok(format!(
            "{} {}",
            String::from_utf8_lossy(&program.path),
            String::from_utf8_lossy(&arguments)
        ))
    }

    #[test]
    fn finds_programs_and_shells() {
        for (mode, command, environment, expected) in [
            (Mode::Command, vec!["sh", "a b"], vec![], "/bin/sh sh|a b"),
            (Mode::Command, vec!["./sh"], vec![], "./sh ./sh"),
            (Mode::Command, vec!["/bin/sh"], vec![], "/bin/sh /bin/sh"),
            (Mode::Login, vec![], vec!["SHELL=/bin/env"], "/bin/target -target"),
            (Mode::Shell, vec![], vec!["SHELL=/bin/env"], "/bin/env env"),
            (Mode::Shell, vec![], vec!["SHELL=env"], "/bin/caller caller"),
            (
                Mode::Login,
                vec!["echo", "a b;$X"],
                vec![],
                "/bin/target -target|-c|echo a\\ b\\;$X",
            ),
        ] {
            assert_eq!(asked(mode, &command, &environment).unwrap(), expected);
        }
        for name in ["no-such-program", "", "./no", "/etc", "/etc/passwd"] {
            let error = asked(Mode::Command, &[name], &[]).unwrap_err();
            assert_eq!(error, format!("sudo: {name}: command not found"));
        }
    }
}
