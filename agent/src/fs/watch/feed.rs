//! Waiting for a tree's events without a thread or timer of its own.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::statfs;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::event::{Event, WatchOptions};
use super::tree::{Drained, Tree};
use crate::fs::error::FsError;

type Draining = JoinHandle<(Tree, Result<Drained, FsError>)>;

/// A started watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Feed {
    descriptor: AsyncFd<Arc<OwnedFd>>,
    /// The tree, unless a drain on the blocking pool has it.
    tree: Option<Tree>,
    draining: Option<Draining>,
    more: bool,
}

impl Feed {
    /// Starts watching as `options` say.
    ///
    /// # Errors
    /// [`FsError`]: path missing (`not_found`), not a directory or on a network mount
    /// (`invalid_argument`), or a limit on watches.
    pub async fn start(options: WatchOptions) -> Result<Self, FsError> {
        let path = options.path.clone();
        let failed = |error| FsError::io("error watching", &path, error);
        let tree = tokio::task::spawn_blocking(move || {
            check(&options)?;
            Tree::start(options)
        })
        .await
        .map_err(|error| failed(std::io::Error::other(error)))??;
        // SAFETY: the descriptor is owned by the `Arc` that is handed over, so it stays open, and
        // the same file, until after its registration ends.
        let registered = unsafe { AsyncFd::register_with_interest(tree.descriptor(), Interest::READABLE) };
        Ok(Self {
            descriptor: registered.map_err(|error| failed(error.into()))?,
            tree: Some(tree),
            draining: None,
            more: true,
        })
    }

    /// Waits for changes and returns them, at least one. Cancel safe: dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// [`FsError::EventsLost`] or the errno of a failed read; every later call then fails too.
    pub async fn next(&mut self) -> Result<Vec<Event>, FsError> {
        loop {
            let drained = self.drain().await?;
            self.more = !drained.emptied;
            if !drained.events.is_empty() {
                return Ok(drained.events);
            }
        }
    }

    async fn drain(&mut self) -> Result<Drained, FsError> {
        const GONE: FsError = FsError::EventsLost("the watch ended after an error; watch again");
        if self.draining.is_none() {
            if !self.more {
                // Readiness is cleared before the kernel's queue is emptied: what comes in between
                // sets it again, so nothing is slept through.
                let mut ready = self.descriptor.readable().await.map_err(|_closed| GONE)?;
                ready.clear_ready();
                self.more = true;
            }
            let mut tree = self.tree.take().ok_or(GONE)?;
            self.draining = Some(tokio::task::spawn_blocking(move || {
                let result = tree.drain();
                (tree, result)
            }));
        }
        let running = self.draining.as_mut().ok_or(GONE)?;
        let joined = running.await;
        self.draining = None;
        let (tree, result) = joined.map_err(|_panicked| GONE)?;
        let drained = result?;
        self.tree = Some(tree);
        Ok(drained)
    }
}

fn check(options: &WatchOptions) -> Result<(), FsError> {
    let path = &options.path;
    let found = std::fs::metadata(path).map_err(|error| FsError::io("error watching", path, error))?;
    if !found.is_dir() {
        return Err(FsError::NotADirectory(path.clone()));
    }
    if !options.allow_network_mounts {
        let mount = statfs(path).map_err(|errno| FsError::io("error examining the mount of", path, errno))?;
        if is_network(mount.f_type) {
            return Err(FsError::NetworkMount(path.clone()));
        }
    }
    Ok(())
}

/// File-system magic numbers of `linux/magic.h`. 9P is left out: in gVisor every file system from
/// the host bears its number, and changes made inside are seen there.
fn is_network(magic: i64) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const SMB2: i64 = 0xfe53_4d42;
    const CIFS: i64 = 0xff53_4d42;
    const FUSE: i64 = 0x6573_5546;
    matches!(magic, NFS | SMB | SMB2 | CIFS | FUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::Kind;
    use crate::fs::watch::event::EventKind;
    use std::path::PathBuf;

    fn options(path: impl Into<PathBuf>) -> WatchOptions {
        WatchOptions {
            path: path.into(),
            recursive: true,
            include_entry: false,
            allow_network_mounts: false,
        }
    }

    #[tokio::test]
    async fn changes_wake_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let mut feed = Feed::start(options(dir.path())).await.unwrap();
        for name in ["a", "b"] {
            let path = dir.path().join(name);
            let (events, written) = tokio::join!(feed.next(), async { std::fs::write(path, b"x") });
            written.unwrap();
            let mut events = events.unwrap();
            // The wait may have ended with the last of the file before; then the new one is still to come.
            let is_new = |event: &Event| event.name == name && event.kind == EventKind::Create;
            while !events.iter().any(is_new) {
                events.extend(feed.next().await.unwrap());
            }
        }
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut feed = Feed::start(options(dir.path())).await.unwrap();
        tokio::select! {
            biased;
            _ = feed.next() => panic!("nothing happened yet"),
            () = async {} => {}
        }
        std::fs::write(dir.path().join("a"), b"").unwrap();
        tokio::select! {
            biased;
            _ = feed.next() => {}
            () = tokio::task::yield_now() => {}
        }
        std::fs::write(dir.path().join("b"), b"").unwrap();
        let mut names = Vec::new();
        while !names.contains(&"b".to_owned()) {
            names.extend(feed.next().await.unwrap().into_iter().map(|event| event.name));
        }
    }

    #[tokio::test]
    async fn refusals() {
        for (path, want) in [("/no/such", Kind::NotFound), ("/etc/passwd", Kind::InvalidArgument)] {
            let error = Feed::start(options(path)).await.unwrap_err();
            assert_eq!(error.kind(), want, "{path}");
        }
    }

    #[test]
    fn network_mounts() {
        for (magic, want) in [
            (0x6969, true),
            (0x6573_5546, true),
            (0xef53, false),
            (0x0102_1997, false),
        ] {
            assert_eq!(is_network(magic), want, "{magic:x}");
        }
    }
}
