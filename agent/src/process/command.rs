//! From a request to everything a child needs.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::clone::{Identity, Plan};
use super::environment;
use crate::connect::Error;
use crate::users::User;
use crate::wire::process::ProcessConfig;

/// Makes the plan to run `config` with the variables `envs`.
///
/// `identity`: whom to become. `workdir`: where to start when the request does not say. `invalid_argument` for an empty
/// program, and for NUL bytes.
pub fn plan(
    config: &ProcessConfig,
    user: &User,
    identity: Option<Identity>,
    workdir: &str,
    envs: &BTreeMap<String, String>,
) -> Result<Plan, Error> {
    if config.cmd.is_empty() {
        return Err(Error::invalid("process.cmd is empty: name a program"));
    }
    let mut arguments = vec![to_c("process.cmd", &config.cmd)?];
    for argument in &config.args {
        arguments.push(to_c("process.args", argument)?);
    }
    let asked = config.cwd.as_deref().filter(|cwd| !cwd.is_empty());
    let directory = directory(asked.unwrap_or(workdir), user);
    Ok(Plan {
        programs: programs(&config.cmd, envs.get("PATH").map(String::as_str))?,
        arguments,
        environment: environment::to_c(envs)?,
        directory: to_c("process.cwd", &directory.to_string_lossy())?,
        directory_optional: asked.is_none(),
        stdio: [-1; 3],
        terminal: None,
        identity,
    })
}

/// `cwd` with `~` and relative paths resolved against the user's home.
pub fn directory(cwd: &str, user: &User) -> PathBuf {
    match cwd.strip_prefix('~') {
        Some("") => user.home.clone(),
        Some(rest) if rest.starts_with('/') => user.home.join(rest.trim_start_matches('/')),
        _ => user.home.join(cwd),
    }
}

/// The paths at which `cmd` may be: itself when it holds a slash, else each directory of PATH.
fn programs(cmd: &str, path: Option<&str>) -> Result<Vec<CString>, Error> {
    if cmd.contains('/') {
        return Ok(vec![to_c("process.cmd", cmd)?]);
    }
    path.unwrap_or(environment::DEFAULT_PATH)
        .split(':')
        // An empty part of PATH means the working directory to a shell; here it means nothing, as in Go.
        .filter(|part| !part.is_empty())
        .map(|part| to_c("process.cmd", &Path::new(part).join(cmd).to_string_lossy()))
        .collect()
}

fn to_c(what: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::invalid(format!("{what} holds a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "user".to_owned(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/user".into(),
            shell: "/bin/sh".into(),
        }
    }

    #[test]
    fn resolves_directories() {
        for (cwd, expected) in [
            ("~", "/home/user"),
            ("~/a", "/home/user/a"),
            ("~//a", "/home/user/a"),
            ("a/b", "/home/user/a/b"),
            ("~other", "/home/user/~other"),
            ("/", "/"),
            ("/tmp/../x", "/tmp/../x"),
        ] {
            assert_eq!(directory(cwd, &user()), Path::new(expected), "{cwd}");
        }
    }

    #[test]
    fn looks_programs_up() {
        for (cmd, path, expected) in [
            ("/bin/ls", Some("/a"), vec!["/bin/ls"]),
            ("./x", Some("/a"), vec!["./x"]),
            ("ls", Some("/a::/b"), vec!["/a/ls", "/b/ls"]),
            ("ls", Some(""), vec![]),
        ] {
            let got: Vec<String> = programs(cmd, path)
                .unwrap()
                .into_iter()
                .map(|program| program.into_string().unwrap())
                .collect();
            assert_eq!(got, expected, "{cmd}");
        }
        assert_eq!(programs("ls", None).unwrap().len(), 6);
    }

    #[test]
    fn refuses_what_cannot_run() {
        for (cmd, args, cwd) in [
            ("", vec![], None),
            ("a\0", vec![], None),
            ("a", vec!["\0"], None),
            ("a", vec![], Some("\0")),
        ] {
            let config = ProcessConfig {
                cmd: cmd.to_owned(),
                args: args.into_iter().map(str::to_owned).collect(),
                cwd: cwd.map(str::to_owned),
                ..ProcessConfig::default()
            };
            assert!(
                plan(&config, &user(), None, "/", &BTreeMap::new()).is_err(),
                "{config:?}"
            );
        }
    }
}
