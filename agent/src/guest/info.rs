//! `GET /atoll/v1/info`: what this agent and its kernel are.

use std::fs;

use hyper::StatusCode;
use serde::Serialize;

use crate::http::{self, Response};
use crate::state::Agent;
use crate::{ENVD_VERSION, GENERATION, VERSION};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    version: &'static str,
    generation: u32,
    envd_version: &'static str,
    pid: u32,
    boot_id: String,
    uptime_ms: u64,
    kernel_release: String,
    kernel_version: String,
    rss_kib: u64,
}

/// Answers with `{version, generation, envdVersion, pid, bootId, uptimeMs, kernelRelease, kernelVersion, rssKib}`.
/// `uptimeMs` counts from the agent's start.
pub fn handle(agent: &Agent) -> Response {
    let system = rustix::system::uname();
    let info = Info {
        version: VERSION,
        generation: GENERATION,
        envd_version: ENVD_VERSION,
        pid: std::process::id(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default(),
        uptime_ms: u64::try_from(agent.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        kernel_release: system.release().to_string_lossy().into_owned(),
        kernel_version: system.version().to_string_lossy().into_owned(),
        rss_kib: resident_kib(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
    };
    http::json(StatusCode::OK, &info)
}

/// `VmRSS` of a `/proc/<pid>/status`, in KiB; 0 when it says none.
fn resident_kib(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resident_memory() {
        assert_eq!(resident_kib("VmHWM:\t  9 kB\nVmRSS:\t    3724 kB\n"), 3724);
        assert_eq!(resident_kib("nothing"), 0);
    }
}
