//! Watchers whose clients poll for events.
//!
//! A watcher's task sleeps until the kernel has events for it. An abandoned watcher is found out by
//! its own next event, or when room for a new one is needed; no timer looks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::event::{Event, WatchOptions};
use super::feed::Feed;
use crate::fs::error::FsError;

/// Watchers at once; each holds one of the system's inotify instances (often 128 for a user).
pub const MAX_WATCHERS: usize = 64;
/// Events kept between two polls; with more the watcher ends and the poll says so.
pub const MAX_BUFFERED_EVENTS: usize = 16_384;
/// A watcher not polled for this long ends at its next event.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(3600);

const BUFFER_FULL: &str = "events were lost: too many changes between two polls; \
                           list the directory and create a new watcher";

/// All polling watchers of the sandbox.
#[derive(Debug, Default, Clone)]
pub struct Pollers {
    watchers: Arc<Mutex<HashMap<String, Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    events: Vec<Event>,
    ended: Option<FsError>,
    polled: Instant,
    task: AbortHandle,
}

impl Pollers {
    /// Starts a watcher and returns its id.
    ///
    /// # Errors
    /// As [`Feed::start`], and `resource_exhausted` when [`MAX_WATCHERS`] are all in use.
    pub async fn create(&self, options: WatchOptions) -> Result<String, FsError> {
        let feed = Feed::start(options).await?;
        let id = new_id();
        let mut watchers = self.lock();
        if watchers.len() >= MAX_WATCHERS {
            watchers.retain(|_, watcher| watcher.keep());
        }
        if watchers.len() >= MAX_WATCHERS {
            return Err(FsError::LimitReached(format!(
                "{MAX_WATCHERS} watchers are in use: remove one first"
            )));
        }
        let task = tokio::spawn(self.clone().collect(id.clone(), feed));
        watchers.insert(
            id.clone(),
            Watcher {
                events: Vec::new(),
                ended: None,
                polled: Instant::now(),
                task: task.abort_handle(),
            },
        );
        Ok(id)
    }

    /// Takes the events since the last poll, in order; empty when there are none.
    ///
    /// # Errors
    /// `not_found` for an unknown id, and once, after the last events of a watcher that failed, the
    /// reason why it did; the id is unknown from then on.
    pub fn poll(&self, id: &str) -> Result<Vec<Event>, FsError> {
        let mut watchers = self.lock();
        let watcher = watchers
            .get_mut(id)
            .ok_or_else(|| FsError::NoSuchWatcher(id.to_owned()))?;
        watcher.polled = Instant::now();
        let events = std::mem::take(&mut watcher.events);
        if events.is_empty()
            && let Some(error) = watcher.ended.take()
        {
            watchers.remove(id);
            return Err(error);
        }
        Ok(events)
    }

    /// Ends a watcher; its events are gone.
    ///
    /// # Errors
    /// `not_found` for an unknown id.
    pub fn remove(&self, id: &str) -> Result<(), FsError> {
        let watcher = self.lock().remove(id);
        let watcher = watcher.ok_or_else(|| FsError::NoSuchWatcher(id.to_owned()))?;
        watcher.task.abort();
        Ok(())
    }

    async fn collect(self, id: String, mut feed: Feed) {
        loop {
            let result = feed.next().await;
            let mut watchers = self.lock();
            let Some(watcher) = watchers.get_mut(&id) else {
                return;
            };
            let failure = match result {
                Ok(_) if !watcher.keep() => {
                    watchers.remove(&id);
                    return;
                }
                Ok(events) if watcher.events.len() + events.len() > MAX_BUFFERED_EVENTS => {
                    FsError::EventsLost(BUFFER_FULL)
                }
                Ok(events) => {
                    watcher.events.extend(events);
                    continue;
                }
                Err(error) => error,
            };
            watcher.ended = Some(failure);
            return;
        }
    }

    /// A panic while the table was locked cannot leave it half changed, so the poison is ignored.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    fn keep(&self) -> bool {
        self.polled.elapsed() < IDLE_EXPIRY
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Unguessable, so that one client of the sandbox does not take another's events by accident.
fn new_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState is seeded by the system; two draws make 128 bits.
    let half = || RandomState::new().hash_one(Instant::now());
    format!("w{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::error::Kind;
    use std::path::Path;

    fn options(path: &Path) -> WatchOptions {
        WatchOptions {
            path: path.to_path_buf(),
            recursive: false,
            include_entry: false,
            allow_network_mounts: false,
        }
    }

    async fn poll_until(pollers: &Pollers, id: &str, name: &str) {
        loop {
            let events = pollers.poll(id).unwrap();
            if events.iter().any(|event| event.name == name) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn events_are_kept_until_polled_and_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let pollers = Pollers::default();
        let id = pollers.create(options(dir.path())).await.unwrap();
        assert_eq!(pollers.poll(&id).unwrap(), []);
        std::fs::write(dir.path().join("a"), b"").unwrap();
        poll_until(&pollers, &id, "a").await;
        assert_eq!(pollers.poll(&id).unwrap(), []);
        pollers.remove(&id).unwrap();
        for result in [pollers.poll(&id).map(drop), pollers.remove(&id)] {
            assert_eq!(result.unwrap_err().kind(), Kind::NotFound);
        }
    }

    #[tokio::test]
    async fn an_overfull_buffer_ends_the_watcher_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let pollers = Pollers::default();
        let id = pollers.create(options(dir.path())).await.unwrap();
        let filler = Event {
            name: "x".into(),
            kind: crate::fs::watch::event::EventKind::Write,
            entry: None,
        };
        let full = vec![filler; MAX_BUFFERED_EVENTS];
        pollers.lock().get_mut(&id).unwrap().events = full;
        std::fs::write(dir.path().join("a"), b"").unwrap();
        while pollers.lock()[&id].ended.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pollers.poll(&id).unwrap().len(), MAX_BUFFERED_EVENTS);
        assert_eq!(pollers.poll(&id).unwrap_err().kind(), Kind::DataLoss);
        assert_eq!(pollers.poll(&id).unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn an_abandoned_watcher_ends_at_its_next_event() {
        let dir = tempfile::tempdir().unwrap();
        let pollers = Pollers::default();
        let id = pollers.create(options(dir.path())).await.unwrap();
        let long_ago = Instant::now().checked_sub(IDLE_EXPIRY).unwrap();
        pollers.lock().get_mut(&id).unwrap().polled = long_ago;
        std::fs::write(dir.path().join("a"), b"").unwrap();
        while pollers.lock().contains_key(&id) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_limit_spares_watchers_in_use_only() {
        let dir = tempfile::tempdir().unwrap();
        let pollers = Pollers::default();
        let mut ids = Vec::new();
        for _ in 0..MAX_WATCHERS {
            ids.push(pollers.create(options(dir.path())).await.unwrap());
        }
        let error = pollers.create(options(dir.path())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        let long_ago = Instant::now().checked_sub(IDLE_EXPIRY).unwrap();
        pollers.lock().get_mut(&ids[0]).unwrap().polled = long_ago;
        pollers.create(options(dir.path())).await.unwrap();
        assert!(pollers.poll(&ids[0]).is_err());
    }
}
