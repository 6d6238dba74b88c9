//! Who may become root, by the image's own rules, read anew for each call.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::sudoers::{self, Findings, Include, Subject};
use crate::users::{self, User, UserError};

/// Their members may become root wherever there is a sudoers file.
const GROUPS: [&str; 3] = ["sudo", "wheel", "admin"];
/// Larger files are not read, in bytes (256 KiB).
const MAX_FILE: u64 = 256 * 1024;
/// Files read for one call, at most; a file that includes itself ends here.
const MAX_FILES: usize = 64;

/// A caller who may, and the settings for its commands.
#[derive(Debug)]
pub struct Permit {
    /// Whoever called.
    pub caller: User,
    /// `secure_path` and `env_keep` of the image.
    pub findings: Findings,
}

/// Checks the caller with `uid`. The error is the line for it.
pub fn check(uid: u32) -> Result<Permit, String> {
    let caller = users::with_uid(uid).map_err(|error| match error {
        UserError::Unknown(_) => "sudo: you do not exist in the passwd database".to_owned(),
        other => format!("sudo: {other}"),
    })?;
    let groups = users::groups_of(&caller).map_err(|error| format!("sudo: {error}"))?;
    decide(caller, groups, Path::new("/etc/sudoers"))
}

fn decide(caller: User, groups: Vec<(String, u32)>, sudoers: &Path) -> Result<Permit, String> {
    let member = groups.iter().any(|(name, _)| GROUPS.contains(&name.as_str()));
    let mut findings = Findings::default();
    let mut reading = Reading {
        subject: Subject {
            name: &caller.name,
            uid: caller.uid,
            groups,
        },
        left: MAX_FILES,
    };
    let read = reading.file(sudoers, &mut findings);
    if caller.uid == 0 {
        return Ok(Permit { caller, findings });
    }
    if let Err(error) = read {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => format!("{} is not in the sudoers file.", caller.name),
            _ => format!("sudo: {}: {error}", sudoers.display()),
        });
    }
    match findings.free {
        Some(true) => Ok(Permit { caller, findings }),
        _ if member => Ok(Permit { caller, findings }),
        Some(false) => Err("sudo: a password is required".to_owned()),
        None => Err(format!("{} is not in the sudoers file.", caller.name)),
    }
}

struct Reading<'a> {
    subject: Subject<'a>,
    left: usize,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path, findings: &mut Findings) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(io::Error::other("too many files"));
        };
        self.left = left;
        let text = read_trusted(path)?;
        let subject = self.subject.clone();
        sudoers::read(&text, &subject, findings, &mut |include, findings| {
            // As a broken line, a file that cannot be read or trusted grants nothing.
            let _ = match include {
                Include::File(path) => self.file(Path::new(path), findings),
                Include::Directory(path) => self.directory(Path::new(path), findings),
            };
        });
        Ok(())
    }

    fn directory(&mut self, path: &Path, findings: &mut Findings) -> io::Result<()> {
        trust(&std::fs::metadata(path)?)?;
        let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| !name.contains('.') && !name.ends_with('~'))
            })
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            let _ = self.file(&file, findings);
        }
        Ok(())
    }
}

fn read_trusted(path: &Path) -> io::Result<String> {
    // What is no file must not hold PID 1 up.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    trust(&metadata)?;
    let mut bytes = Vec::new();
    if file.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 256 KiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn trust(metadata: &Metadata) -> io::Result<()> {
    let mode = metadata.mode();
    if metadata.uid() != 0 {
        return Err(io::Error::other(format!(
            "is owned by uid {}, should be 0",
            metadata.uid()
        )));
    }
    if mode & 0o002 != 0 || (mode & 0o020 != 0 && metadata.gid() != 0) {
        return Err(io::Error::other("is writable by others than root"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    fn user(uid: u32) -> User {
        User {
            name: if uid == 0 { "root" } else { "user" }.to_owned(),
            uid,
            gid: uid,
            groups: vec![uid],
            home: "/".into(),
            shell: "/bin/sh".into(),
        }
    }

    fn may(sudoers: &Path, groups: &[&str]) -> Result<(), String> {
        let groups = groups.iter().map(|name| ((*name).to_owned(), 7)).collect();
        decide(user(1000), groups, sudoers).map(|_| ())
    }

    #[test]
    fn without_sudoers_only_root() {
        let missing = Path::new("/no/such/sudoers");
        assert!(decide(user(0), vec![], missing).is_ok());
        assert_eq!(may(missing, &["sudo"]).unwrap_err(), "user is not in the sudoers file.");
    }

    #[test]
    fn reads_only_what_root_wrote() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (main, more) = (directory.path().join("sudoers"), directory.path().join("sudoers.d"));
        fs::create_dir(&more).unwrap();
        fs::set_permissions(&more, Permissions::from_mode(0o755)).unwrap();
        fs::write(
            &main,
            format!(
                "%sudo ALL=(ALL) ALL\n@includedir {}\n@include {}\n",
                more.display(),
                main.display()
            ),
        )
        .unwrap();
        assert!(may(&main, &["sudo"]).is_ok());
        assert!(may(&main, &["wheel"]).is_ok());
        assert!(may(&main, &["docker"]).unwrap_err().contains("not in the sudoers file"));
        let rule = "user ALL=(ALL) NOPASSWD:ALL\n";
        for ignored in ["a.conf", "a~"] {
            fs::write(more.join(ignored), rule).unwrap();
        }
        assert!(may(&main, &[]).is_err());
        let good = more.join("user");
        fs::write(&good, rule).unwrap();
        assert!(may(&main, &[]).is_ok());
        for (mode, owner, expected) in [
            (0o440, 0, true),
            (0o664, 0, true),
            (0o666, 0, false),
            (0o600, 1000, false),
        ] {
            fs::set_permissions(&good, Permissions::from_mode(mode)).unwrap();
            chown(&good, Some(owner), Some(0)).unwrap();
            assert_eq!(may(&main, &[]).is_ok(), expected, "{mode:o} {owner}");
        }
        chown(&good, Some(0), Some(1000)).unwrap();
        fs::set_permissions(&good, Permissions::from_mode(0o660)).unwrap();
        assert!(may(&main, &[]).is_err());
        fs::set_permissions(&good, Permissions::from_mode(0o440)).unwrap();
        assert!(may(&main, &[]).is_ok());
        fs::set_permissions(&more, Permissions::from_mode(0o777)).unwrap();
        assert!(may(&main, &[]).is_err());
        fs::remove_file(&main).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&main).status().unwrap();
        assert!(made.success());
        assert!(may(&main, &["sudo"]).unwrap_err().contains("not a regular file"));
    }
}
