//! The last output of a process, in emission order, addressed by how many bytes came before.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes kept per process (256 KiB); memory is taken only as output comes.
pub const CAPACITY: usize = 256 * 1024;
/// Changes between stdout and stderr kept per process: bounds the memory of interleaved single bytes.
const MAX_RUNS: usize = 8192;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The terminal.
    Pty,
}

impl Source {
    /// Most bytes in one event: 32 KiB, of a terminal 16 KiB.
    pub fn chunk(self) -> usize {
        match self {
            Self::Stdout | Self::Stderr => 32 * 1024,
            Self::Pty => 16 * 1024,
        }
    }
}

struct Run {
    source: Source,
    /// Place after the run's last byte.
    end: u64,
}

/// A process's recent output.
#[derive(Default)]
pub struct Ring {
    bytes: VecDeque<u8>,
    runs: VecDeque<Run>,
    start: u64,
}

impl Ring {
    /// Place of the oldest byte still held.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Place after the newest byte: how many there ever were.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes of `source` can be pushed without losing any from place `needed` on; None = all may be lost.
    pub fn room(&self, source: Source, needed: Option<u64>) -> usize {
        let Some(needed) = needed else {
            return CAPACITY;
        };
        let starts_run = self.runs.back().is_none_or(|run| run.source != source);
        if starts_run && self.runs.len() >= MAX_RUNS && self.runs.front().is_some_and(|run| run.end > needed) {
            return 0;
        }
        let held = usize::try_from(self.end().saturating_sub(needed)).unwrap_or(usize::MAX);
        CAPACITY.saturating_sub(held)
    }

    /// Appends output, dropping the oldest bytes beyond the capacity.
    pub fn push(&mut self, source: Source, data: &[u8]) {
        // Only the last part of more than fits can stay; the count goes on over the rest.
        let kept = &data[data.len().saturating_sub(CAPACITY)..];
        let skipped = data.len() - kept.len();
        if skipped > 0 {
            self.drop_oldest(self.bytes.len());
            self.start += skipped as u64;
        }
        let excess = (self.bytes.len() + kept.len()).saturating_sub(CAPACITY);
        self.drop_oldest(excess);
        self.grow(kept.len());
        self.bytes.extend(kept);
        if kept.is_empty() {
            return;
        }
        let end = self.end();
        match self.runs.back_mut() {
            Some(run) if run.source == source => run.end = end,
            _ => {
                if self.runs.len() >= MAX_RUNS
                    && let Some(run) = self.runs.front()
                {
                    let length = usize::try_from(run.end - self.start).unwrap_or(usize::MAX);
                    self.drop_oldest(length);
                }
                self.runs.push_back(Run { source, end });
            }
        }
    }

    /// The output from place `from` on, as much as fits one event; None when there is none. `from`
    /// before the start reads from the start.
    pub fn read(&self, from: u64) -> Option<(Source, Bytes)> {
        let from = from.max(self.start);
        let index = self.runs.partition_point(|run| run.end <= from);
        let run = self.runs.get(index)?;
        let length = usize::try_from(run.end - from)
            .unwrap_or(usize::MAX)
            .min(run.source.chunk());
        let skip = usize::try_from(from - self.start).ok()?;
        let mut out = BytesMut::with_capacity(length);
        let (first, second) = self.bytes.as_slices();
        let head = first.get(skip..).unwrap_or_default();
        let head = &head[..head.len().min(length)];
        out.extend_from_slice(head);
        let rest = length - head.len();
        let at = skip.saturating_sub(first.len());
        out.extend_from_slice(second.get(at..at + rest)?);
        Some((run.source, out.freeze()))
    }

    /// Forgets the bytes; the count stays.
    pub fn forget(&mut self) {
        self.start = self.end();
        self.bytes = VecDeque::new();
        self.runs = VecDeque::new();
    }

    /// Gives back memory that is held for growth.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.runs.shrink_to_fit();
    }

    fn grow(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        let capacity = self.bytes.capacity();
        if needed > capacity {
            // Doubling by hand: the collection's own would go past the ring's capacity.
            let target = needed.max(capacity * 2).min(CAPACITY);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }

    fn drop_oldest(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.bytes.drain(..count.min(self.bytes.len()));
        self.start += count as u64;
        while self.runs.front().is_some_and(|run| run.end <= self.start) {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Source::{Stderr, Stdout};

    fn all(ring: &Ring, mut from: u64) -> Vec<(Source, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some((source, bytes)) = ring.read(from) {
            from = from.max(ring.start()) + bytes.len() as u64;
            out.push((source, bytes.to_vec()));
        }
        out
    }

    #[test]
    fn keeps_order_and_source() {
        let mut ring = Ring::default();
        ring.push(Stdout, b"ab");
        ring.push(Stdout, b"c");
        ring.push(Stderr, b"d");
        ring.push(Stdout, b"");
        ring.push(Stdout, b"e");
        assert_eq!(
            all(&ring, 0),
            [
                (Stdout, b"abc".to_vec()),
                (Stderr, b"d".to_vec()),
                (Stdout, b"e".to_vec())
            ]
        );
        assert_eq!(
            all(&ring, 2),
            [
                (Stdout, b"c".to_vec()),
                (Stderr, b"d".to_vec()),
                (Stdout, b"e".to_vec())
            ]
        );
        assert_eq!(all(&ring, 5), []);
        assert_eq!(all(&ring, 99), []);
    }

    #[test]
    fn drops_the_oldest_and_counts_on() {
        let mut ring = Ring::default();
        ring.push(Stderr, b"old");
        ring.push(Stdout, &vec![b'x'; CAPACITY]);
        assert_eq!(
            (ring.start(), ring.end(), ring.len()),
            (3, 3 + CAPACITY as u64, CAPACITY)
        );
        assert_eq!(ring.read(0).unwrap().0, Stdout);
        ring.push(Stderr, &vec![b'y'; CAPACITY * 2 + 5]);
        assert_eq!(ring.end(), 3 + 3 * CAPACITY as u64 + 5);
        assert_eq!(ring.len(), CAPACITY);
        assert_eq!(ring.read(0).unwrap().0, Stderr);
        assert!(ring.bytes.capacity() <= CAPACITY + 64);
    }

    #[test]
    fn agrees_with_a_plain_vector() {
        let mut state = 7u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 40).unwrap()
        };
        let mut ring = Ring::default();
        let mut model: Vec<(Source, u8)> = Vec::new();
        for _ in 0..3000 {
            let source = if random() % 3 == 0 { Stderr } else { Stdout };
            let length = if random() % 50 == 0 {
                random() % 90_000
            } else {
                random() % 40
            };
            let data: Vec<u8> = (0..length).map(|_| u8::try_from(random() % 256).unwrap()).collect();
            ring.push(source, &data);
            model.extend(data.iter().map(|byte| (source, *byte)));
            assert_eq!(ring.end(), model.len() as u64);
            assert!(ring.len() <= CAPACITY);
            if random() % 100 == 0 {
                let got: Vec<(Source, u8)> = all(&ring, 0)
                    .into_iter()
                    .flat_map(|(source, bytes)| bytes.into_iter().map(move |byte| (source, byte)))
                    .collect();
                assert_eq!(got, model[usize::try_from(ring.start()).unwrap()..]);
            }
        }
    }

    #[test]
    fn room_never_costs_a_reader_its_bytes() {
        let mut ring = Ring::default();
        assert_eq!(ring.room(Stdout, None), CAPACITY);
        assert_eq!(ring.room(Stdout, Some(0)), CAPACITY);
        ring.push(Stdout, &vec![0; CAPACITY - 10]);
        assert_eq!(ring.room(Stdout, Some(0)), 10);
        assert_eq!(ring.room(Stdout, Some(ring.end())), CAPACITY);
        let mut ring = Ring::default();
        for index in 0..MAX_RUNS {
            ring.push(if index % 2 == 0 { Stdout } else { Stderr }, b"z");
        }
        assert_eq!(ring.room(Stdout, Some(0)), 0, "a new run would push out the first");
        assert!(ring.room(Stderr, Some(0)) > 0, "the last run may grow");
        assert!(ring.room(Stdout, Some(1)) > 0, "the first run is read");
    }
}
