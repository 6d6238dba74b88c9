//! A process as the service's parts share it: its buffer, its readers, its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rustix::process::Pid;
use tokio::sync::Notify;

use super::input::Input;
use super::ring::{Ring, Source};
use crate::wire::process::{EndEvent, ProcessConfig};

/// One process started through the agent.
pub struct Process {
    /// Its process id, also that of its session and process group.
    pub pid: Pid,
    /// The tag given at its start.
    pub tag: Option<String>,
    /// What it was asked to run.
    pub config: ProcessConfig,
    pub(super) input: Input,
    /// Told when readers made room in the buffer.
    pub(super) room_made: Notify,
    /// Told when somebody sent SIGKILL.
    pub(super) kill_sent: Notify,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ring: Ring,
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    end: Option<EndEvent>,
}

struct Reader {
    /// Place in the output that it has read up to.
    place: u64,
    waker: Option<Waker>,
}

/// What a reader finds.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Output.
    Data(Source, Bytes),
    /// The process ended and everything was read.
    End(EndEvent),
}

impl Process {
    pub(super) fn new(pid: Pid, tag: Option<String>, config: ProcessConfig, input: Input) -> Arc<Self> {
        Arc::new(Self {
            pid,
            tag,
            config,
            input,
            room_made: Notify::new(),
            kill_sent: Notify::new(),
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process id as the wire has it.
    pub fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the end event is out.
    pub fn has_ended(&self) -> bool {
        self.inner().end.is_some()
    }

    /// Bytes of output held, when no reader needs them.
    pub(super) fn spare(&self) -> usize {
        let inner = self.inner();
        if inner.readers.is_empty() { inner.ring.len() } else { 0 }
    }

    /// Forgets the output held, unless a reader needs it.
    pub(super) fn forget_output(&self) {
        let mut inner = self.inner();
        if inner.readers.is_empty() {
            inner.ring.forget();
        }
    }

    /// Adds a reader at place `from`, or at the end of what there is. Returns its id and how many bytes before its
    /// place were asked for but are gone.
    pub(super) fn add_reader(&self, from: Option<u64>) -> (u64, u64) {
        let mut inner = self.inner();
        let (start, end) = (inner.ring.start(), inner.ring.end());
        let place = from.unwrap_or(end).clamp(start, end);
        let lost = from.map_or(0, |from| start.saturating_sub(from));
        let id = inner.next_reader;
        inner.next_reader += 1;
        inner.readers.insert(id, Reader { place, waker: None });
        (id, lost)
    }

    /// Takes a reader away; the process no longer waits for it.
    pub(super) fn remove_reader(&self, id: u64) {
        self.inner().readers.remove(&id);
        self.room_made.notify_waiters();
    }

    /// The next output or end for a reader.
    pub(super) fn poll_read(&self, id: u64, task: &mut Context<'_>) -> Poll<Option<Step>> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(reader) = inner.readers.get_mut(&id) else {
            return Poll::Ready(None);
        };
        if let Some((source, bytes)) = inner.ring.read(reader.place) {
            reader.place = reader.place.max(inner.ring.start()) + bytes.len() as u64;
            self.room_made.notify_waiters();
            return Poll::Ready(Some(Step::Data(source, bytes)));
        }
        if let Some(end) = &inner.end {
            return Poll::Ready(Some(Step::End(end.clone())));
        }
        if !reader.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            reader.waker = Some(task.waker().clone());
        }
        Poll::Pending
    }

    /// How many bytes of `source` may be taken from the process now.
    pub(super) fn room(&self, source: Source) -> usize {
        let inner = self.inner();
        let needed = inner.readers.values().map(|reader| reader.place).min();
        inner.ring.room(source, needed)
    }

    /// Adds output and wakes the readers.
    pub(super) fn push(&self, source: Source, data: &[u8]) {
        let mut inner = self.inner();
        inner.ring.push(source, data);
        wake(&mut inner);
    }

    /// Sets the end event, once, and wakes the readers.
    pub(super) fn finish(&self, end: EndEvent) {
        let mut inner = self.inner();
        inner.end.get_or_insert(end);
        inner.ring.shrink();
        wake(&mut inner);
    }
}

fn wake(inner: &mut Inner) {
    for reader in inner.readers.values_mut() {
        if let Some(waker) = reader.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ring::CAPACITY;

    fn process() -> Arc<Process> {
        let pid = Pid::from_raw(1).unwrap();
        Process::new(pid, None, ProcessConfig::default(), Input::disabled())
    }

    fn read(process: &Process, reader: u64) -> Option<Vec<u8>> {
        match process.poll_read(reader, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Step::Data(_, bytes))) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn a_slow_reader_holds_back_and_its_leaving_frees() {
        let process = process();
        let (reader, lost) = process.add_reader(None);
        assert_eq!(lost, 0);
        process.push(Source::Stdout, &vec![1; CAPACITY]);
        assert_eq!(process.room(Source::Stdout), 0);
        assert_eq!(read(&process, reader).unwrap().len(), 32 * 1024);
        assert_eq!(process.room(Source::Stdout), 32 * 1024);
        process.remove_reader(reader);
        assert_eq!(process.room(Source::Stdout), CAPACITY);
    }

    #[test]
    fn readers_start_live_or_at_a_place() {
        let process = process();
        process.push(Source::Stdout, b"0123");
        let (live, _) = process.add_reader(None);
        let (replay, lost) = process.add_reader(Some(2));
        assert_eq!(lost, 0);
        assert_eq!(read(&process, live), None);
        process.push(Source::Stdout, b"45");
        assert_eq!(read(&process, live), Some(b"45".to_vec()));
        assert_eq!(read(&process, replay), Some(b"2345".to_vec()));
        process.push(Source::Stdout, &vec![9; CAPACITY]);
        let (_, lost) = process.add_reader(Some(3));
        assert_eq!(
            lost, 3,
            "six bytes came before what is held; three of them were asked for"
        );
    }

    #[test]
    fn the_end_comes_after_all_output() {
        let process = process();
        let (reader, _) = process.add_reader(Some(0));
        process.push(Source::Pty, b"x");
        process.finish(EndEvent::default());
        assert_eq!(read(&process, reader), Some(b"x".to_vec()));
        let step = process.poll_read(reader, &mut Context::from_waker(Waker::noop()));
        assert_eq!(step, Poll::Ready(Some(Step::End(EndEvent::default()))));
    }
}
