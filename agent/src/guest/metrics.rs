//! `GET /metrics`: use of CPU, memory and disk, measured when asked.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::cpu::Sample;
use crate::http::{self, Response};
use crate::state::Agent;
use crate::time;

const MIB: u64 = 1024 * 1024;
/// Calls closer together get the same percentage: a shorter time says nothing.
const CPU_INTERVAL: Duration = Duration::from_millis(200);

/// The measure before, for the CPU percentage.
#[derive(Debug)]
pub struct History {
    last: Mutex<(Sample, f64)>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            last: Mutex::new((Sample::now(), 0.0)),
        }
    }
}

impl History {
    /// Percentage of all CPUs used since the call before; since the agent's start in the first.
    fn percent(&self, count: usize) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.at.elapsed() >= CPU_INTERVAL {
            let now = Sample::now();
            let percent = now.percent_since(&last.0, count);
            *last = (now, percent);
        }
        (last.1 * 100.0).round() / 100.0
    }
}

#[derive(Serialize)]
struct Metrics {
    ts: u64,
    cpu_count: usize,
    cpu_used_pct: f64,
    mem_total: u64,
    mem_used: u64,
    mem_cache: u64,
    mem_total_mib: u64,
    mem_used_mib: u64,
    disk_used: u64,
    disk_total: u64,
}

/// Answers with envd's metrics: bytes, MiB where the name says so, `ts` in Unix seconds.
pub fn handle(agent: &Agent) -> Response {
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory();
    let (disk_total, disk_used) = disk();
    let metrics = Metrics {
        ts: time::now().as_secs(),
        cpu_count,
        cpu_used_pct: agent.cpu.percent(cpu_count),
        mem_total: memory.total,
        mem_used: memory.used,
        mem_cache: memory.cache,
        mem_total_mib: memory.total / MIB,
        mem_used_mib: memory.used / MIB,
        disk_used,
        disk_total,
    };
    http::json(StatusCode::OK, &metrics)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    used: u64,
    cache: u64,
}

/// Of the sandbox's cgroup when that is smaller than the machine, as in a container; else of the (guest's) kernel.
fn memory() -> Memory {
    let machine = fs::read_to_string("/proc/meminfo").map_or_else(|_| Memory::default(), |text| meminfo(&text));
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    for (limit, current) in [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ] {
        if let (Some(total), Some(charged)) = (number(limit), number(current))
            && total < machine.total
        {
            let cache =
                fs::read_to_string(limit.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned() + "/memory.stat")
                    .map_or(0, |stat| file_cache(&stat));
            return Memory {
                total,
                used: charged.saturating_sub(cache),
                cache,
            };
        }
    }
    machine
}

fn meminfo(text: &str) -> Memory {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
            .map(|kib| kib * 1024)
    };
    let total = field("MemTotal").unwrap_or(0);
    let free = field("MemFree").unwrap_or(0);
    let cache = field("Cached").unwrap_or(0) + field("Buffers").unwrap_or(0);
    let available = field("MemAvailable").unwrap_or(free + cache);
    Memory {
        total,
        used: total.saturating_sub(available),
        cache,
    }
}

/// Page cache of a cgroup's `memory.stat`: `file` in version 2, `total_cache` in version 1.
fn file_cache(stat: &str) -> u64 {
    stat.lines()
        .find_map(|line| line.strip_prefix("file ").or_else(|| line.strip_prefix("total_cache ")))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Total and used bytes of the root file system.
fn disk() -> (u64, u64) {
    match rustix::fs::statvfs("/") {
        Ok(stat) => (
            stat.f_blocks * stat.f_frsize,
            stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
        ),
        Err(_) => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        let text = "MemTotal: 1000 kB\nMemFree: 200 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 300 kB\nSwapCached: 9 kB\n";
        let expected = Memory {
            total: 1000 * 1024,
            used: 400 * 1024,
            cache: 350 * 1024,
        };
        assert_eq!(meminfo(text), expected);
        assert_eq!(meminfo("junk\nMemTotal: x kB"), Memory::default());
    }

    #[test]
    fn reads_cache_of_both_versions() {
        assert_eq!(file_cache("anon 5\nfile 7\nfile_mapped 1\n"), 7);
        assert_eq!(file_cache("cache 3\ntotal_cache 8\n"), 8);
        assert_eq!(file_cache(""), 0);
    }
}
