//! Users and groups of the sandbox, read from `/etc/passwd` and `/etc/group`.
//!
//! A static binary has no name service switch, and the files are all that an image has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::{connect, userfiles};

/// One user of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All group ids, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory; may not exist.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No entry, and not a number.
    #[error("invalid username: '{0}'")]
    Unknown(String),
    /// The Authorization header is not `Basic base64("user:")`.
    #[error("invalid authorization header: expected Basic with a username")]
    BadHeader,
    /// The user or group file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl From<UserError> for connect::Error {
    fn from(error: UserError) -> Self {
        let code = match error {
            UserError::Unknown(_) | UserError::BadHeader => connect::Code::Unauthenticated,
            UserError::Unreadable { .. } => connect::Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// The user called `name`, or with that number. Root always exists; a number without an entry has
/// the home `/`.
pub fn lookup(name: &str) -> Result<User, UserError> {
    let passwd = read(Path::new("/etc/passwd"))?;
    let group = read(Path::new("/etc/group"))?;
    find(name, &passwd, &group).ok_or_else(|| UserError::Unknown(name.to_owned()))
}

/// The user whose entry has the id `uid`; root always exists.
pub fn with_uid(uid: u32) -> Result<User, UserError> {
    from_entry(|user| user.uid == uid, || uid == 0, || uid.to_string())
}

/// The user whose entry has the name `name`, which is not taken for an id; root always exists.
pub fn with_name(name: &str) -> Result<User, UserError> {
    from_entry(|user| user.name == name, || name == "root", || name.to_owned())
}

fn from_entry(
    fits: impl Fn(&User) -> bool,
    is_root: impl Fn() -> bool,
    wanted: impl Fn() -> String,
) -> Result<User, UserError> {
    let passwd = read(Path::new("/etc/passwd"))?;
    let group = read(Path::new("/etc/group"))?;
    let entry = passwd.lines().filter_map(parse_passwd).find(|user| fits(user));
    let mut user = entry
        .or_else(|| is_root().then(|| bare("root", 0, "/root")))
        .ok_or_else(|| UserError::Unknown(wanted()))?;
    add_groups(&mut user, &group);
    Ok(user)
}

/// Names and ids of the groups `user` is in; a group without an entry is left out.
pub fn groups_of(user: &User) -> Result<Vec<(String, u32)>, UserError> {
    let group = read(Path::new("/etc/group"))?;
    Ok(group
        .lines()
        .filter_map(|line| Some((line.split(':').next()?.to_owned(), parse_group(line)?.0)))
        .filter(|(_, gid)| user.groups.contains(gid))
        .collect())
}

/// The id of the group called `name`.
pub fn group_id(name: &str) -> Result<Option<u32>, UserError> {
    let group = read(Path::new("/etc/group"))?;
    Ok(group
        .lines()
        .filter(|line| line.split(':').next() == Some(name))
        .find_map(|line| Some(parse_group(line)?.0)))
}

/// The user named by `Authorization: Basic base64("user:")`; None without the header.
pub fn basic_auth_user(headers: &HeaderMap) -> Result<Option<String>, UserError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| UserError::BadHeader)?;
    let Some((scheme, encoded)) = text.split_once(' ') else {
        return Err(UserError::BadHeader);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        // Bearer and the like are somebody else's: a gateway in front may use them.
        return Ok(None);
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| UserError::BadHeader)?;
    let decoded = String::from_utf8(decoded).map_err(|_| UserError::BadHeader)?;
    let name = decoded.split(':').next().unwrap_or_default();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn read(path: &Path) -> Result<Arc<str>, UserError> {
    userfiles::read(path).map_err(|source| UserError::Unreadable {
        path: path.to_path_buf(),
        source,
    })
}

fn find(name: &str, passwd: &str, group: &str) -> Option<User> {
    let number = name.parse::<u32>().ok();
    let entry = passwd
        .lines()
        .filter_map(parse_passwd)
        .find(|user| user.name == name)
        .or_else(|| {
            let number = number?;
            passwd.lines().filter_map(parse_passwd).find(|user| user.uid == number)
        });
    let mut user = match (entry, number) {
        (Some(user), _) => user,
        (None, _) if name == "root" => bare("root", 0, "/root"),
        (None, Some(number)) => bare(name, number, "/"),
        (None, None) => return None,
    };
    add_groups(&mut user, group);
    Some(user)
}

fn add_groups(user: &mut User, group: &str) {
    for line in group.lines() {
        if let Some((gid, members)) = parse_group(line)
            && members.split(',').any(|member| member == user.name)
            && !user.groups.contains(&gid)
        {
            user.groups.push(gid);
        }
    }
}

fn bare(name: &str, id: u32, home: &str) -> User {
    User {
        name: name.to_owned(),
        uid: id,
        gid: id,
        groups: vec![id],
        home: PathBuf::from(home),
        shell: PathBuf::from("/bin/sh"),
    }
}

fn parse_passwd(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
    let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        groups: vec![gid],
        home: PathBuf::from(home),
        shell: PathBuf::from(shell),
    })
}

fn parse_group(line: &str) -> Option<(u32, &str)> {
    let mut fields = line.split(':');
    fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((gid, fields.next()?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:1:1::/:\n\
                          user:x:1000:1001:,,,:/home/user:/bin/bash\nbare:x:7:8:::\nnan:x:x:1::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:other,user\nown:x:1001:user\nbad\ndocker:x:999:user\nempty:x:5:\n";

    #[test]
    fn finds_users() {
        for (name, expected) in [
            ("user", Some((1000, vec![1001, 27, 999], "/home/user"))),
            ("1000", Some((1000, vec![1001, 27, 999], "/home/user"))),
            ("root", Some((0, vec![0], "/root"))),
            ("bare", Some((7, vec![8], "/"))),
            ("4242", Some((4242, vec![4242], "/"))),
            ("broken", None),
            ("nan", None),
            ("", None),
            ("us", None),
            ("-1", None),
        ] {
            let found = find(name, PASSWD, GROUP);
            let got = found
                .as_ref()
                .map(|user| (user.uid, user.groups.clone(), user.home.to_string_lossy()));
            let want = expected.map(|(uid, groups, home)| (uid, groups, home.into()));
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn root_exists_in_an_image_without_files() {
        let root = find("root", "", "").unwrap();
        assert_eq!((root.uid, root.gid, root.home), (0, 0, PathBuf::from("/root")));
    }

    #[test]
    fn reads_basic_authorization() {
        for (header, expected) in [
            (None, Ok(None)),
            (Some("Basic dXNlcjo="), Ok(Some("user"))),
            (Some("basic cm9vdDpwYXNz"), Ok(Some("root"))),
            (Some("Basic Og=="), Ok(None)),
            (Some("Bearer abc"), Ok(None)),
            (Some("Basic !!!"), Err(())),
            (Some("Basic"), Err(())),
            (Some("Basic /w=="), Err(())),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            }
            let got = basic_auth_user(&headers).map_err(|_| ());
            assert_eq!(got, expected.map(|name| name.map(str::to_owned)), "{header:?}");
        }
    }
}
