//! `filesystem.Filesystem` on the wire: each method resolves its paths for the requesting user and
//! runs one verb on the blocking pool.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use hyper::{HeaderMap, StatusCode};

use super::entry::Entry;
use super::error::{FsError, Kind};
use super::list::list;
use super::make_dir::make_dir;
use super::messages::{
    Empty, EntryInfo, EntryResponse, FilesystemEvent, ListDirRequest, ListDirResponse, MoveRequest, PathRequest,
    WatchDirResponse, WatchRequest, WatcherEvents, WatcherId,
};
use super::owners::OwnerNames;
use super::ownership::Ownership;
use super::path::resolve;
use super::remove::remove;
use super::rename::rename;
use super::watch::event::WatchOptions;
use super::watch::feed::Feed;
use crate::Agent;
use crate::connect::{self, Code, Context, Streaming, server_stream, unary};
use crate::http::{self, Request, Response};
use crate::users::User;

/// Answers a call of `filesystem.Filesystem/<method>`; the caller has checked the access token.
pub async fn handle(agent: &Arc<Agent>, method: &str, request: Request) -> Response {
    let scope = |context: &Context| Scope::of(agent, &context.headers);
    match method {
        "Stat" => unary(request, async |context, message| stat(scope(&context)?, message).await).await,
        "MakeDir" => unary(request, async |context, message| make(scope(&context)?, message).await).await,
        "Move" => unary(request, async |context, message| mv(scope(&context)?, message).await).await,
        "ListDir" => unary(request, async |context, message| ls(scope(&context)?, message).await).await,
        "Remove" => unary(request, async |context, message| rm(scope(&context)?, message).await).await,
        "WatchDir" => server_stream(request, async |context, message| watch(scope(&context)?, message).await).await,
        "CreateWatcher" => {
            unary(request, async |context, message| {
                create_watcher(agent, scope(&context)?, message).await
            })
            .await
        }
        "GetWatcherEvents" => unary(request, async |_, message| poll_watcher(agent, &message)).await,
        "RemoveWatcher" => unary(request, async |_, message| remove_watcher(agent, &message)).await,
        _ => http::error(
            StatusCode::NOT_FOUND,
            format!("filesystem.Filesystem has no method '{}'", method.escape_default()),
        ),
    }
}

/// Whose request it is, and where its relative paths start.
struct Scope {
    user: User,
    workdir: Option<String>,
}

impl Scope {
    fn of(agent: &Agent, headers: &HeaderMap) -> Result<Self, connect::Error> {
        Ok(Self {
            user: agent.request_user(headers)?,
            workdir: agent.settings().default_workdir.clone(),
        })
    }

    fn path(&self, raw: &str) -> Result<PathBuf, FsError> {
        Ok(resolve(raw, &self.user.home, self.workdir.as_deref())?)
    }

    fn owner(&self) -> Ownership {
        Ownership::of(&self.user)
    }

    fn watch_options(&self, message: &WatchRequest) -> Result<WatchOptions, FsError> {
        Ok(WatchOptions {
            path: self.path(&message.path)?,
            recursive: message.recursive,
            include_entry: message.include_entry,
            allow_network_mounts: message.allow_network_mounts,
        })
    }
}

type Answer<T> = Result<T, connect::Error>;

async fn stat(scope: Scope, message: PathRequest) -> Answer<EntryResponse> {
    let path = scope.path(&message.path)?;
    blocking(move || entry(path)).await
}

async fn make(scope: Scope, message: PathRequest) -> Answer<EntryResponse> {
    let path = scope.path(&message.path)?;
    blocking(move || {
        make_dir(&path, scope.owner())?;
        entry(path)
    })
    .await
}

/// Elsewhere an empty path means the working directory; here a forgotten field would take the whole home away.
fn named(field: &str, path: &str) -> Answer<()> {
    if path.is_empty() {
        return Err(connect::Error::invalid(format!(
            "{field} is empty: name what to move or remove"
        )));
    }
    Ok(())
}

async fn mv(scope: Scope, message: MoveRequest) -> Answer<EntryResponse> {
    named("source", &message.source)?;
    named("destination", &message.destination)?;
    let source = scope.path(&message.source)?;
    let destination = scope.path(&message.destination)?;
    blocking(move || {
        rename(&source, &destination, scope.owner())?;
        entry(destination)
    })
    .await
}

async fn ls(scope: Scope, message: ListDirRequest) -> Answer<ListDirResponse> {
    let path = scope.path(&message.path)?;
    blocking(move || {
        let entries = list(&path, message.depth)?;
        let entries = entries.into_iter().map(EntryInfo::from).collect();
        Ok(ListDirResponse { entries })
    })
    .await
}

async fn rm(scope: Scope, message: PathRequest) -> Answer<Empty> {
    named("path", &message.path)?;
    let path = scope.path(&message.path)?;
    blocking(move || remove(&path).map(|()| Empty {})).await
}

async fn watch(
    scope: Scope,
    message: WatchRequest,
) -> Answer<Streaming<impl Stream<Item = Answer<WatchDirResponse>> + Send + 'static>> {
    let feed = Feed::start(scope.watch_options(&message)?).await?;
    let started = WatchDirResponse {
        start: Some(Empty {}),
        ..WatchDirResponse::default()
    };
    let changes = stream::unfold(Some(feed), async |feed| {
        let mut feed = feed?;
        match feed.next().await {
            Ok(events) => Some((events.into_iter().map(item).collect(), Some(feed))),
            Err(error) => Some((vec![Err(error.into())], None)),
        }
    })
    .map(stream::iter)
    .flatten();
    Ok(Streaming::new(stream::iter([Ok(started)]).chain(changes)))
}

async fn create_watcher(agent: &Agent, scope: Scope, message: WatchRequest) -> Answer<WatcherId> {
    let options = scope.watch_options(&message)?;
    let watcher_id = agent.fs.pollers.create(options).await?;
    Ok(WatcherId { watcher_id })
}

fn poll_watcher(agent: &Agent, message: &WatcherId) -> Answer<WatcherEvents> {
    let events = agent.fs.pollers.poll(&message.watcher_id)?;
    let events = events.into_iter().map(FilesystemEvent::from).collect();
    Ok(WatcherEvents { events })
}

fn remove_watcher(agent: &Agent, message: &WatcherId) -> Answer<Empty> {
    agent.fs.pollers.remove(&message.watcher_id)?;
    Ok(Empty {})
}

fn item(event: super::watch::event::Event) -> Answer<WatchDirResponse> {
    Ok(WatchDirResponse {
        filesystem: Some(event.into()),
        ..WatchDirResponse::default()
    })
}

fn entry(path: PathBuf) -> Result<EntryResponse, FsError> {
    let found =
        Entry::read(&path, &OwnerNames::load()).map_err(|error| FsError::io("file not found:", &path, error))?;
    Ok(EntryResponse {
        entry: Some(found.into()),
    })
}

/// Runs `job` on the blocking pool. A caller that goes away does not stop it halfway.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> Result<T, FsError> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => Ok(result?),
        Err(panicked) => Err(connect::Error::internal(format!(
            "the operation failed inside the agent: {panicked}"
        ))),
    }
}

impl From<FsError> for connect::Error {
    fn from(error: FsError) -> Self {
        let code = match error.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::InvalidArgument => Code::InvalidArgument,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::FailedPrecondition => Code::FailedPrecondition,
            Kind::PermissionDenied => Code::PermissionDenied,
            Kind::ResourceExhausted => Code::ResourceExhausted,
            Kind::DataLoss => Code::DataLoss,
            Kind::Internal => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_path_neither_moves_nor_removes() {
        // Not tried against an agent: where this fails, the home of whoever runs the test would be gone.
        assert_eq!(
            named("path", "").map_err(|error| error.code),
            Err(Code::InvalidArgument)
        );
        assert_eq!(named("path", "a"), Ok(()));
    }
}
