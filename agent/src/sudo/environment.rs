//! The environment of a command, as sudo makes it.

use std::collections::BTreeMap;

use crate::users::User;

/// Variables, name to value.
pub type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// PATH of commands, unless the sudoers file names another.
pub const SECURE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kept from the caller. `*` at the end stands for anything; ours tell what sandbox this is.
const KEPT: [&str; 19] = [
    "ATOLL_*",
    "COLORS",
    "COLORTERM",
    "DISPLAY",
    "E2B_*",
    "HOSTNAME",
    "KRB5CCNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LINGUAS",
    "LS_COLORS",
    "PS1",
    "PS2",
    "TERM",
    "TZ",
    "XAUTHORITY",
    "XAUTHORIZATION",
    "XDG_CURRENT_DESKTOP",
];
/// Of those, kept only without `/` and `%`: libraries take them for parts of paths and formats.
const CHECKED: [&str; 6] = ["COLORTERM", "LANG", "LANGUAGE", "LC_*", "LINGUAS", "TERM"];
/// Not even kept by `-E`: they would change which code root runs.
const DELETED: [&str; 26] = [
    "BASHOPTS",
    "BASH_ENV",
    "BASH_FUNC_*",
    "CDPATH",
    "ENV",
    "FPATH",
    "GLOBIGNORE",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "LD_*",
    "LOCALDOMAIN",
    "NLSPATH",
    "NULLCMD",
    "PATH_LOCALE",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLIO_DEBUG",
    "PERLLIB",
    "PS4",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "READNULLCMD",
    "SHELLOPTS",
];

/// What the environment is made from.
pub struct Basis<'a> {
    /// The caller's environment, `NAME=value`.
    pub given: &'a [Vec<u8>],
    /// Whoever called.
    pub caller: &'a User,
    /// Whom the command runs as.
    pub target: &'a User,
    /// PATH.
    pub path: &'a str,
    /// Keep everything.
    pub keep_all: bool,
    /// HOME is the target's even so.
    pub set_home: bool,
    /// A login shell: nothing is kept but the terminal's kind.
    pub login: bool,
    /// Further names to keep: the caller's.
    pub keep: &'a [Vec<u8>],
    /// Further names to keep: the image's.
    pub image_keep: &'a [String],
    /// `NAME=value` set at the end.
    pub assignments: &'a [Vec<u8>],
    /// For SUDO_COMMAND.
    pub command: &'a [u8],
}

/// Makes the environment.
pub fn build(basis: &Basis<'_>) -> Variables {
    let mut variables = Variables::new();
    for (name, value) in basis.given.iter().filter_map(|entry| split(entry)) {
        if is_kept(basis, name, value) {
            variables.insert(name.to_vec(), value.to_vec());
        }
    }
    let keeps_home = (basis.keep_all || is_named(basis, b"HOME")) && !basis.set_home && !basis.login;
    let target = basis.target;
    let home = target.home.as_os_str().as_encoded_bytes();
    let mut set = |name: &str, value: &[u8]| drop(variables.insert(name.into(), value.into()));
    if !keeps_home || !basis.given.iter().any(|entry| entry.starts_with(b"HOME=")) {
        set("HOME", home);
    }
    if !basis.keep_all || basis.login {
        set("SHELL", target.shell.as_os_str().as_encoded_bytes());
        set("MAIL", format!("/var/mail/{}", target.name).as_bytes());
    }
    set("USER", target.name.as_bytes());
    set("LOGNAME", target.name.as_bytes());
    set("PATH", basis.path.as_bytes());
    set("SUDO_COMMAND", basis.command);
    set("SUDO_USER", basis.caller.name.as_bytes());
    set("SUDO_UID", basis.caller.uid.to_string().as_bytes());
    set("SUDO_GID", basis.caller.gid.to_string().as_bytes());
    variables.entry(b"TERM".to_vec()).or_insert_with(|| b"unknown".to_vec());
    for (name, value) in basis.assignments.iter().filter_map(|entry| split(entry)) {
        variables.insert(name.to_vec(), value.to_vec());
    }
    variables
}

fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let place = entry.iter().position(|byte| *byte == b'=').filter(|place| *place > 0)?;
    Some((&entry[..place], &entry[place + 1..]))
}

fn is_kept(basis: &Basis<'_>, name: &[u8], value: &[u8]) -> bool {
    // Shell functions in the environment.
    if value.starts_with(b"()") {
        return false;
    }
    if is_named(basis, name) {
        return true;
    }
    if basis.keep_all && !basis.login {
        return !matches_any(&DELETED, name);
    }
    let harmless = !matches_any(&CHECKED, name) || !value.iter().any(|byte| matches!(byte, b'/' | b'%'));
    matches_any(&KEPT, name) && harmless
}

fn is_named(basis: &Basis<'_>, name: &[u8]) -> bool {
    basis.keep.iter().any(|kept| kept == name) || basis.image_keep.iter().any(|pattern| matches(pattern, name))
}

fn matches_any(patterns: &[&str], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32, home: &str) -> User {
        User {
            name: name.to_owned(),
            uid,
            gid: uid,
            groups: vec![uid],
            home: home.into(),
            shell: "/bin/bash".into(),
        }
    }

    #[derive(Default)]
    struct Change {
        keep_all: bool,
        set_home: bool,
        login: bool,
        keep: Vec<Vec<u8>>,
        image_keep: Vec<String>,
        assignments: Vec<Vec<u8>>,
    }

    fn built(given: &[&str], change: Change) -> BTreeMap<String, String> {
        let (caller, target) = (user("user", 1000, "/home/user"), user("root", 0, "/root"));
        let given: Vec<_> = given.iter().map(|entry| entry.as_bytes().to_vec()).collect();
        let basis = Basis {
            given: &given,
            caller: &caller,
            target: &target,
            path: "/secure",
            keep_all: change.keep_all,
            set_home: change.set_home,
            login: change.login,
            keep: &change.keep,
            image_keep: &change.image_keep,
            assignments: &change.assignments,
            command: b"/usr/bin/env",
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        build(&basis)
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    const GIVEN: [&str; 13] = [
        "HOME=/home/user",
        "PATH=/evil",
        "USER=user",
        "TERM=xterm",
        "LANG=C.UTF-8",
        "LC_ALL=../../x",
        "FOO=bar",
        "E2B_SANDBOX_ID=s1",
        "LD_PRELOAD=/evil.so",
        "PYTHONPATH=/evil",
        "BASH_FUNC_x%%=() { :; }",
        "broken",
        "=x",
    ];

    #[test]
    fn a_reset_keeps_little() {
        let expected = BTreeMap::from(
            [
                ("E2B_SANDBOX_ID", "s1"),
                ("HOME", "/root"),
                ("LANG", "C.UTF-8"),
                ("LOGNAME", "root"),
                ("MAIL", "/var/mail/root"),
                ("PATH", "/secure"),
                ("SHELL", "/bin/bash"),
                ("SUDO_COMMAND", "/usr/bin/env"),
                ("SUDO_GID", "1000"),
                ("SUDO_UID", "1000"),
                ("SUDO_USER", "user"),
                ("TERM", "xterm"),
                ("USER", "root"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(built(&GIVEN, Change::default()), expected);
    }

    #[test]
    fn keeping_everything_still_leaves_out_what_changes_code() {
        let all = built(
            &GIVEN,
            Change {
                keep_all: true,
                ..Change::default()
            },
        );
        for (name, value) in [
            ("FOO", Some("bar")),
            ("HOME", Some("/home/user")),
            ("PATH", Some("/secure")),
            ("USER", Some("root")),
            ("LD_PRELOAD", None),
            ("PYTHONPATH", None),
            ("BASH_FUNC_x%%", None),
            ("MAIL", None),
        ] {
            assert_eq!(all.get(name).map(String::as_str), value, "{name}");
        }
        let home = built(
            &GIVEN,
            Change {
                keep_all: true,
                set_home: true,
                ..Change::default()
            },
        );
        assert_eq!(home["HOME"], "/root");
        let login = built(
            &GIVEN,
            Change {
                keep_all: true,
                login: true,
                ..Change::default()
            },
        );
        assert_eq!((login.get("FOO"), login["HOME"].as_str()), (None, "/root"));
    }

    #[test]
    fn names_and_assignments_win() {
        let keep = vec![b"FOO".to_vec(), b"HOME".to_vec()];
        let image_keep = vec!["LD_*".to_owned()];
        let assignments = vec![b"PATH=/mine".to_vec(), b"FOO=other".to_vec(), b"EMPTY=".to_vec()];
        let kept = built(
            &GIVEN,
            Change {
                keep,
                ..Change::default()
            },
        );
        assert_eq!((kept["FOO"].as_str(), kept["HOME"].as_str()), ("bar", "/home/user"));
        assert_eq!(
            built(
                &GIVEN,
                Change {
                    image_keep,
                    ..Change::default()
                }
            )["LD_PRELOAD"],
            "/evil.so"
        );
        let set = built(
            &GIVEN,
            Change {
                assignments,
                ..Change::default()
            },
        );
        assert_eq!(
            (set["PATH"].as_str(), set["FOO"].as_str(), set["EMPTY"].as_str()),
            ("/mine", "other", "")
        );
    }

    #[test]
    fn without_a_terminal_its_kind_is_unknown() {
        assert_eq!(built(&[], Change::default())["TERM"], "unknown");
    }
}
