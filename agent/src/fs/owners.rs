//! Names for the numeric owner and group of a file.
//!
//! A static binary has no NSS, so `/etc/passwd` and `/etc/group` are read here. One reading serves
//! one request: a user added in between shows up at the next request.

use std::collections::HashMap;

/// Number-to-name tables of users and groups.
#[derive(Debug, Default)]
pub struct OwnerNames {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl OwnerNames {
    /// Reads the system's tables; a missing or unreadable one counts as empty, so numbers are
    /// shown instead of names.
    pub fn load() -> Self {
        let table = |file| {
            std::fs::read(file)
                .map(|text| parse(&String::from_utf8_lossy(&text)))
                .unwrap_or_default()
        };
        Self {
            users: table("/etc/passwd"),
            groups: table("/etc/group"),
        }
    }

    /// The name of user `uid`, or the number as text.
    pub fn user(&self, uid: u32) -> String {
        name(&self.users, uid)
    }

    /// The name of group `gid`, or the number as text.
    pub fn group(&self, gid: u32) -> String {
        name(&self.groups, gid)
    }
}

fn name(table: &HashMap<u32, String>, id: u32) -> String {
    table.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// Both tables keep the name first and the number third; as in libc the first line of a number wins.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut table = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(id))) = (fields.next(), fields.next(), fields.next().map(str::parse)) {
            table.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let parsed = parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:\n# c\n\nbad:x:nan\nuser:x:1000:1000\n");
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[&0], "root");
        assert_eq!(parsed[&1000], "user");
    }

    #[test]
    fn unknown_numbers_are_shown_as_numbers() {
        let names = OwnerNames::default();
        assert_eq!((names.user(7), names.group(8)), ("7".into(), "8".into()));
    }
}
