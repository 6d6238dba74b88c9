//! The part of the sudoers language that images use: who may do all, without a password.
//!
//! What is not understood grants nothing. As in sudo, the last line that fits the user counts.

/// Whom the lines are asked about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// Login name.
    pub name: &'a str,
    /// User id.
    pub uid: u32,
    /// Names and ids of the groups.
    pub groups: Vec<(String, u32)>,
}

/// What the lines say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// None = no line fits; otherwise whether it needs no password.
    pub free: Option<bool>,
    /// `Defaults secure_path`.
    pub secure_path: Option<String>,
    /// `Defaults env_keep`: names, possibly ending in `*`.
    pub keep: Vec<String>,
}

/// A file or directory to be read in the place of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Include<'a> {
    /// `@include`.
    File(&'a str),
    /// `@includedir`.
    Directory(&'a str),
}

/// Reads `text` for `subject` into `findings`; `include` is called where another file belongs.
pub fn read(
    text: &str,
    subject: &Subject<'_>,
    findings: &mut Findings,
    include: &mut dyn FnMut(Include<'_>, &mut Findings),
) {
    for line in text.replace("\\\n", " ").lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix(['@', '#'])
            && let Some((word, path)) = rest.split_once(char::is_whitespace)
        {
            match word {
                "include" => include(Include::File(path.trim()), findings),
                "includedir" => include(Include::Directory(path.trim()), findings),
                _ => {}
            }
            if word == "include" || word == "includedir" {
                continue;
            }
        }
        let line = without_comment(line);
        match line.strip_prefix("Defaults") {
            // Only those for everybody.
            Some(settings) if settings.starts_with(char::is_whitespace) => read_defaults(settings, findings),
            Some(_) => {}
            None => {
                if let Some(free) = read_rule(line, subject) {
                    findings.free = Some(free);
                }
            }
        }
    }
}

fn without_comment(line: &str) -> &str {
    // `#1000` at the start, or after `%`, is an id.
    let mut previous = None;
    for (place, letter) in line.char_indices() {
        let next = line[place + letter.len_utf8()..].chars().next();
        let is_id = next.is_some_and(|next| next.is_ascii_digit()) && matches!(previous, None | Some('%'));
        if letter == '#' && !is_id {
            return &line[..place];
        }
        previous = Some(letter);
    }
    line
}

fn read_defaults(settings: &str, findings: &mut Findings) {
    let Some((name, value)) = settings.split_once('=') else {
        return;
    };
    let value = value.trim().trim_matches('"');
    match name.trim() {
        "secure_path" => findings.secure_path = Some(value.to_owned()),
        "env_keep" | "env_keep +" | "env_keep+" => {
            findings.keep.extend(value.split_whitespace().map(str::to_owned));
        }
        _ => {}
    }
}

/// `users hosts = (runas) TAG: commands`. None = the line is not about the subject, or not understood.
fn read_rule(line: &str, subject: &Subject<'_>) -> Option<bool> {
    // An alias' members, exceptions, quoted names, several rules in one line: nothing of it is understood.
    if line.contains(['!', '"', '\\', ';']) || line.matches('=').count() != 1 {
        return None;
    }
    let (left, right) = line.split_once('=')?;
    let (users, host) = left.trim().rsplit_once(char::is_whitespace)?;
    let fits = host == "ALL" && users.split(',').any(|user| is_subject(user.trim(), subject));
    if !fits {
        return None;
    }
    let mut rest = right.trim();
    if let Some(inner) = rest.strip_prefix('(') {
        let (whom, after) = inner.split_once(')')?;
        let mut names = whom.split(':').map(str::trim);
        if !names.all(|name| name == "ALL") {
            return None;
        }
        rest = after.trim();
    }
    let mut free = false;
    while let Some((tag, after)) = rest.split_once(':') {
        match tag.trim() {
            "NOPASSWD" => free = true,
            "PASSWD" => free = false,
            "SETENV" | "NOSETENV" | "EXEC" | "LOG_INPUT" | "NOLOG_INPUT" | "LOG_OUTPUT" | "NOLOG_OUTPUT" => {}
            _ => return None,
        }
        rest = after.trim();
    }
    (rest == "ALL").then_some(free)
}

fn is_subject(user: &str, subject: &Subject<'_>) -> bool {
    if let Some(group) = user.strip_prefix('%') {
        return match group.strip_prefix('#') {
            Some(id) => id
                .parse()
                .is_ok_and(|id: u32| subject.groups.iter().any(|(_, gid)| *gid == id)),
            None => !group.is_empty() && subject.groups.iter().any(|(name, _)| name == group),
        };
    }
    match user.strip_prefix('#') {
        Some(id) => id.parse() == Ok(subject.uid),
        None => user == "ALL" || (!user.is_empty() && user == subject.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject<'static> {
        Subject {
            name: "user",
            uid: 1000,
            groups: vec![("user".to_owned(), 1000), ("dev".to_owned(), 50)],
        }
    }

    fn findings(text: &str) -> Findings {
        let mut findings = Findings::default();
        read(text, &subject(), &mut findings, &mut |_, _| {});
        findings
    }

    #[test]
    fn reads_who_may() {
        for (text, expected) in [
            ("user ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("user ALL=(ALL:ALL) NOPASSWD: ALL", Some(true)),
            ("user\tALL = ( ALL : ALL ) NOPASSWD : ALL # why", Some(true)),
            ("user ALL=NOPASSWD: ALL", Some(true)),
            ("user ALL=(ALL) NOPASSWD:SETENV: ALL", Some(true)),
            ("user ALL=(ALL) \\\n  NOPASSWD: ALL", Some(true)),
            ("a, user ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("%dev ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("%#50 ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("#1000 ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("ALL ALL=(ALL) NOPASSWD:ALL", Some(true)),
            ("user ALL=(ALL) ALL", Some(false)),
            ("user ALL=(ALL) NOPASSWD:ALL\nuser ALL=(ALL) ALL", Some(false)),
            ("%dev ALL=(ALL:ALL) ALL\nuser ALL=(ALL) NOPASSWD:ALL", Some(true)),
        ] {
            assert_eq!(findings(text).free, expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_grants_nothing() {
        for text in [
            "",
            "user",
            "=",
            "user ALL",
            "user ALL=",
            "user ALL=(",
            "user ALL=(ALL",
            "user ALL=()NOPASSWD:ALL",
            "user ALL=(www) NOPASSWD:ALL",
            "user ALL=(ALL) NOPASSWD:/bin/ls",
            "user ALL=(ALL) NOPASSWD:/bin/ls, ALL",
            "user ALL=(ALL) NOPASSWD:ALL, !/bin/sh",
            "ALL, !user ALL=(ALL) NOPASSWD:ALL",
            "user other=(ALL) NOPASSWD:ALL",
            "# user ALL=(ALL) NOPASSWD:ALL",
            "#user ALL=(ALL) NOPASSWD:ALL",
            "#10000 ALL=(ALL) NOPASSWD:ALL",
            "#1000x ALL=(ALL) NOPASSWD:ALL",
            "%user2 ALL=(ALL) NOPASSWD:ALL",
            "% ALL=(ALL) NOPASSWD:ALL",
            "%#x ALL=(ALL) NOPASSWD:ALL",
            "user2 ALL=(ALL) NOPASSWD:ALL",
            "root ALL=(ALL) NOPASSWD:ALL",
            "us#er ALL=(ALL) NOPASSWD:ALL",
            "User_Alias ALL=user",
            "Cmnd_Alias X = ALL",
            "\"user\" ALL=(ALL) NOPASSWD:ALL",
            "ü # user ALL=(ALL) NOPASSWD:ALL",
            "user ALL=(ALL) NOPASSWD:ALL : ALL=(ALL) ALL",
            "DefaultsX user ALL=(ALL) NOPASSWD:ALL",
        ] {
            assert_eq!(findings(text).free, None, "{text}");
        }
    }

    #[test]
    fn reads_settings() {
        let text = "Defaults\tenv_reset\nDefaults secure_path=\"/a:/b\"\nDefaults:user secure_path=/c\n\
                    Defaults env_keep += \"http_proxy LC_*\"\nDefaults env_keep+=X\nDefaults !lecture";
        let found = findings(text);
        assert_eq!(found.secure_path.as_deref(), Some("/a:/b"));
        assert_eq!(found.keep, ["http_proxy", "LC_*", "X"]);
        assert_eq!(found.free, None);
    }

    #[test]
    fn names_what_to_include_in_its_place() {
        let text = "user ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n#include /x y\n#included /no\n";
        let mut seen = Vec::new();
        let mut found = Findings::default();
        read(text, &subject(), &mut found, &mut |include, findings| {
            seen.push(match include {
                Include::File(path) => format!("file {path}"),
                Include::Directory(path) => format!("directory {path}"),
            });
            findings.free = Some(true);
        });
        assert_eq!(seen, ["directory /etc/sudoers.d", "file /x y"]);
        assert_eq!(found.free, Some(true));
    }
}
