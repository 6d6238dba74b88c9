//! The agent's state: what `/init` set, and the parts that live as long as the agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::HeaderMap;

use crate::guest::metrics::History;
use crate::users::{self, User, UserError};
use crate::{auth, fs, process};

/// User of requests that name none, until `/init` says otherwise.
pub const DEFAULT_USER: &str = "user";

/// What `/init` sets.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Access token; None = not secured.
    pub token: Option<String>,
    /// Environment variables of every process.
    pub envs: BTreeMap<String, String>,
    /// Variables no request may override (`E2B_SANDBOX` and the ids).
    pub system_envs: BTreeMap<String, String>,
    /// User of requests that name none.
    pub default_user: Option<String>,
    /// Working directory of processes and paths that name none; the user's home when None.
    pub default_workdir: Option<String>,
}

/// Everything the agent holds; shared by all requests as `Arc<Agent>`.
pub struct Agent {
    /// When the agent started.
    pub started: Instant,
    /// Every process started through the agent.
    pub processes: process::Table,
    /// PATH of processes that are given none.
    pub path: String,
    /// Whether the agent is PID 1, and so may change the sandbox around it.
    pub is_init: bool,
    /// Directory of the files that name the sandbox; None = they are not written.
    pub run_dir: Option<PathBuf>,
    /// CPU use measured before.
    pub cpu: History,
    /// State of the file-system service.
    pub fs: fs::State,
    settings: Mutex<Settings>,
}

impl Default for Agent {
    fn default() -> Self {
        let is_init = std::process::id() == 1;
        Self {
            started: Instant::now(),
            processes: process::Table::default(),
            path: std::env::var("PATH")
                .ok()
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| process::DEFAULT_PATH.to_owned()),
            is_init,
            run_dir: std::env::var_os("ATOLL_AGENT_RUN_DIR")
                .map(PathBuf::from)
                .or_else(|| is_init.then(|| PathBuf::from("/run/e2b"))),
            cpu: History::default(),
            fs: fs::State::default(),
            settings: Mutex::new(Settings::default()),
        }
    }
}

impl Agent {
    /// The settings, locked: copy what is needed and let go before awaiting.
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `headers` carry the access token, or none is set.
    pub fn is_authorized(&self, headers: &HeaderMap) -> bool {
        auth::has_token(self.settings().token.as_deref(), headers)
    }

    /// The access token; None = not secured.
    pub fn token(&self) -> Option<String> {
        self.settings().token.clone()
    }

    /// The user called `name`; None or empty = the default user, or root in an image that lacks it.
    pub fn user(&self, name: Option<&str>) -> Result<User, UserError> {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return users::lookup(name);
        }
        let default = self.settings().default_user.clone();
        match default {
            Some(name) => users::lookup(&name),
            None => users::lookup(DEFAULT_USER).or_else(|error| match error {
                UserError::Unknown(_) => users::lookup("root"),
                other => Err(other),
            }),
        }
    }

    /// The user a request names by Basic authorization (`user:`), else the default user.
    pub fn request_user(&self, headers: &HeaderMap) -> Result<User, UserError> {
        self.user(users::basic_auth_user(headers)?.as_deref())
    }

    /// Directory that relative paths and processes without a `cwd` start from: the default working
    /// directory, else the user's home.
    pub fn workdir(&self, user: &User) -> String {
        self.settings()
            .default_workdir
            .clone()
            .filter(|workdir| !workdir.is_empty())
            .unwrap_or_else(|| user.home.to_string_lossy().into_owned())
    }
}
