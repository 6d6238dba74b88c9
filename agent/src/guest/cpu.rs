//! CPU time used in the sandbox, found from its processes.
//!
//! `/proc/stat` is all zeros in gVisor and the host's in a container, while the processes' own times
//! are right everywhere.

use std::fs;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// A point in time and the CPU time used until then.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// CPU time of all processes, living and reaped, since the boot.
    pub used: Duration,
}

impl Sample {
    /// Measures now.
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            used: living().saturating_add(reaped()),
        }
    }

    /// Percentage of `count` CPUs used since `earlier`, from 0 to 100.
    pub fn percent_since(&self, earlier: &Self, count: usize) -> f64 {
        let wall = self.at.duration_since(earlier.at).as_secs_f64();
        if wall <= 0.0 || count == 0 {
            return 0.0;
        }
        let used = self.used.saturating_sub(earlier.used).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a number of CPUs is small")]
        let share = used / wall / count as f64;
        (share * 100.0).clamp(0.0, 100.0)
    }
}

/// User and system time of every living process, and of the children each has waited for.
fn living() -> Duration {
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let Ok(entries) = fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    let mut ticks = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
            && let Ok(stat) = fs::read_to_string(entry.path().join("stat"))
        {
            // The agent's own children are counted by getrusage, which is finer.
            let own = name.to_str() == Some("self") || stat.split(' ').next() == Some(&std::process::id().to_string());
            ticks += stat_ticks(&stat, !own);
        }
    }
    Duration::from_millis(ticks * 1000 / ticks_per_second)
}

/// Ticks of a `/proc/<pid>/stat`: fields 14 and 15, with waited-for children also 16 and 17.
fn stat_ticks(stat: &str, with_children: bool) -> u64 {
    // The name, in parentheses, may hold anything; the last parenthesis ends it.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return 0;
    };
    let count = if with_children { 4 } else { 2 };
    rest.split_whitespace()
        .skip(11)
        .take(count)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

/// Time of the children the agent has reaped.
fn reaped() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the structure, which is valid zeroed as well.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let duration = |time: libc::timeval| {
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), 0)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ticks_behind_any_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 100 20 3 4 99 99";
        assert_eq!(stat_ticks(stat, true), 127);
        assert_eq!(stat_ticks(stat, false), 120);
        assert_eq!(stat_ticks("7 (cut", true), 0);
        assert_eq!(stat_ticks("", true), 0);
    }

    #[test]
    fn gives_percentages() {
        let start = Sample {
            at: Instant::now(),
            used: Duration::from_secs(10),
        };
        for (used, count, expected) in [(11, 2, 50.0), (10, 1, 0.0), (9, 1, 0.0), (50, 1, 100.0), (11, 0, 0.0)] {
            let later = Sample {
                at: start.at + Duration::from_secs(1),
                used: Duration::from_secs(used),
            };
            assert!(
                (later.percent_since(&start, count) - expected).abs() < 1e-9,
                "{used} {count}"
            );
        }
        assert!(start.percent_since(&start, 1).abs() < 1e-9);
    }
}
