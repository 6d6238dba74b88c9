//! The environment of a process: request over sandbox over system, and what nobody may override.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::connect::Error;
use crate::state::Settings;
use crate::users::User;

/// PATH of processes, unless the agent was started with another.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that say what sandbox this is; only the system sets them.
pub const PROTECTED: [&str; 5] = [
    "E2B_SANDBOX",
    "E2B_SANDBOX_ID",
    "E2B_TEMPLATE_ID",
    "E2B_EVENTS_ADDRESS",
    "ATOLL_SANDBOX_ID",
];

/// The variables of a process of `user` whose request asks for `request`.
///
/// `invalid_argument` for a name that is empty or holds `=`, and for NUL bytes.
pub fn build(
    user: &User,
    settings: &Settings,
    path: &str,
    request: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut envs = BTreeMap::from([
        ("PATH".to_owned(), path.to_owned()),
        ("HOME".to_owned(), user.home.to_string_lossy().into_owned()),
        ("USER".to_owned(), user.name.clone()),
        ("LOGNAME".to_owned(), user.name.clone()),
    ]);
    for (name, value) in settings.envs.iter().chain(request) {
        check(name, value)?;
        envs.insert(name.clone(), value.clone());
    }
    envs.retain(|name, _| !PROTECTED.contains(&name.as_str()));
    envs.extend(settings.system_envs.clone());
    Ok(envs)
}

/// Refuses a variable that no process could have.
pub fn check(name: &str, value: &str) -> Result<(), Error> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Error::invalid(format!(
            "'{name}' cannot be the name of an environment variable"
        )));
    }
    if value.contains('\0') {
        return Err(Error::invalid(format!(
            "the environment variable '{name}' holds a NUL byte"
        )));
    }
    Ok(())
}

/// `NAME=value` strings for execve.
pub fn to_c(envs: &BTreeMap<String, String>) -> Result<Vec<CString>, Error> {
    envs.iter()
        .map(|(name, value)| {
            CString::new(format!("{name}={value}"))
                .map_err(|_| Error::invalid(format!("the environment variable '{name}' holds a NUL byte")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

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
    fn later_wins_and_system_variables_stay() {
        let settings = Settings {
            envs: map(&[
                ("A", "sandbox"),
                ("B", "sandbox"),
                ("PATH", "/opt"),
                ("E2B_SANDBOX_ID", "forged"),
            ]),
            system_envs: map(&[("E2B_SANDBOX", "true"), ("E2B_SANDBOX_ID", "s1")]),
            ..Settings::default()
        };
        let request = map(&[
            ("B", "request"),
            ("HOME", "/x"),
            ("E2B_SANDBOX", "false"),
            ("ATOLL_SANDBOX_ID", "x"),
        ]);
        let envs = build(&user(), &settings, DEFAULT_PATH, &request).unwrap();
        let expected = map(&[
            ("A", "sandbox"),
            ("B", "request"),
            ("PATH", "/opt"),
            ("HOME", "/x"),
            ("USER", "user"),
            ("LOGNAME", "user"),
            ("E2B_SANDBOX", "true"),
            ("E2B_SANDBOX_ID", "s1"),
        ]);
        assert_eq!(envs, expected);
    }

    #[test]
    fn refuses_impossible_variables() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            assert!(
                build(&user(), &Settings::default(), "", &map(&[(name, value)])).is_err(),
                "{name:?}"
            );
        }
    }
}
