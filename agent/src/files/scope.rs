//! Whose request on `/files` it is.

use std::path::PathBuf;

use crate::Agent;
use crate::fs::ownership::Ownership;
use crate::fs::path::{PathError, resolve};
use crate::users::{User, UserError};

use super::error::FileError;

/// The user a request acts for, and where its relative paths start.
#[derive(Debug, Clone)]
pub struct Scope {
    user: User,
    workdir: Option<String>,
}

impl Scope {
    /// The scope of the user called `username`, or of the default user.
    ///
    /// # Errors
    /// [`FileError::UnknownUser`] when the sandbox has no such user.
    pub fn of(agent: &Agent, username: Option<&str>) -> Result<Self, FileError> {
        let user = agent.user(username).map_err(|error| match error {
            UserError::Unknown(_) | UserError::BadHeader => FileError::UnknownUser(error.to_string()),
            UserError::Unreadable { path, source } => FileError::io("error looking up users in", &path, source),
        })?;
        let workdir = agent.settings().default_workdir.clone();
        Ok(Self { user, workdir })
    }

    /// A scope without an agent.
    #[cfg(test)]
    pub fn with_home(home: &std::path::Path) -> Self {
        let own = Ownership::own();
        Self {
            user: User {
                name: "tester".to_owned(),
                uid: own.uid,
                gid: own.gid,
                groups: vec![own.gid],
                home: home.to_path_buf(),
                shell: PathBuf::from("/bin/sh"),
            },
            workdir: None,
        }
    }

    /// Resolves a path as the client sent it.
    ///
    /// # Errors
    /// [`PathError`] when it cannot name a file.
    pub fn path(&self, raw: &str) -> Result<PathBuf, PathError> {
        resolve(raw, &self.user.home, self.workdir.as_deref())
    }

    /// Who owns what the request creates.
    pub fn owner(&self) -> Ownership {
        Ownership::of(&self.user)
    }
}
