"""`python -m bench`: measure, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from e2e.conftest import Daemon

from atoll import Config, Sandbox
from atolld.images.templates import TemplateStore
from bench import gateway, measure
from bench.bare import BareRuntime

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="pairs of each short operation (default 20)")
    parser.add_argument("--many", type=int, default=50, help="sandboxes at once (default 50)")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "benchmarks.md", help="where the report goes")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, as the runtimes do")
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        report = run(Path(folder), options.count, options.many)
    options.write.write_text(report)
    print(report)


def run(folder: Path, count: int, many: int) -> str:
    daemon = Daemon(folder / "state")
    daemon.start()
    runtimes = {one["name"]: one for one in daemon.api("GET", "/v1/runtimes").json()["items"]}
    gvisor = runtimes["gvisor"]["details"]
    template = TemplateStore(Path("/var/cache/atoll")).get("base")
    bare = BareRuntime(Path(gvisor["binary"]), template.layers[-1], gvisor["platform"])
    client = daemon.config
    parallel = 2 * (os.cpu_count() or 1)
    try:
        say("create to first output")
        rows = [measure.cold_create(client, bare, count)]
        phases = phases_of_creates(daemon)
        base_rss = daemon.rss_bytes()
        with Sandbox.create(memory_mib=1024, timeout_s=3600, config=client) as sandbox:
            say("a command in a running sandbox")
            rows += measure.running_command(sandbox, bare, count)
            say("upload and download")
            rows += measure.transfer(sandbox, folder, folder / "state")
            say("the way through the gateway")
            rows += gateway.through_the_gateway(client, sandbox, 50 * count)
        say(f"{many} at once")
        rows.append(measure.many_at_once(client, bare, many, parallel))
        say("idle sandboxes")
        idle = idle_share(daemon, client, base_rss)
    finally:
        bare.close()
        daemon.stop()
    return render(rows, phases, idle, runtimes["gvisor"]["version"])


def say(what: str) -> None:
    print(f"bench: {what} ...", file=sys.stderr, flush=True)


def phases_of_creates(daemon: Daemon) -> dict[str, float]:
    """Mean seconds of each phase over all creates so far, from the daemon's own metrics, in the order they happen."""
    totals: dict[str, dict[str, float]] = {}
    for line in daemon.api("GET", "/metrics").text.splitlines():
        match = re.fullmatch(r'atoll_sandbox_create_phase_seconds_(sum|count)\{phase="(\w+)".*\} (\S+)', line)
        if match:
            totals.setdefault(match[2], {})[match[1]] = float(match[3])
    return {phase: found["sum"] / found["count"] for phase, found in totals.items()}


def idle_share(daemon: Daemon, client: Config, base_rss: int, count: int = 20) -> dict[str, float]:
    """Our own memory for each idle sandbox: the daemon's growth, and the agent's resident set as the guest sees it."""
    sandboxes = [Sandbox.create(memory_mib=128, config=client) for _ in range(count)]
    try:
        grown = max(0, daemon.rss_bytes() - base_rss) / count
        agent = int(sandboxes[0].run("awk '/VmRSS/{print $2}' /proc/1/status", user="root").stdout)
    finally:
        for sandbox in sandboxes:
            sandbox.kill()
    return {"daemon_mib": grown / 2**20, "agent_mib": agent / 1024}


def render(rows: list[measure.Row], phases: dict[str, float], idle: dict[str, float], version: str) -> str:
    """The report as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Each operation of ours is timed in turn with its baseline in one run,",
        "and the medians are compared. Absolute times depend on the machine and its mood; the ratio is what counts.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d}",
        f"- machine: {os.cpu_count()} cores, {memory_gib():.0f} GiB, Linux {kernel()}, {distribution()}",
        f"- gVisor: {version}; the bare runs use the same binary, platform and root file system, with a prepared",
        "  network namespace and without cgroup limits",
        "",
        "| operation | ours | baseline | | ratio | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "met" if row.met else "**missed**"
        lines.append(
            f"| {row.operation} | {row.ours_s * 1000:.1f} ms | {row.baseline} | {row.baseline_s * 1000:.1f} ms | "
            f"{row.ratio:.2f} | {row.goal} | {verdict}{' (' + row.note + ')' if row.note else ''} |"
        )
    for name, key, bound in (("our daemon's", "daemon_mib", 1.0), ("the agent's", "agent_mib", 4.0)):
        verdict = "met" if idle[key] < bound else "**missed**"
        lines.append(f"| {name} memory per idle sandbox | {idle[key]:.2f} MiB | | | | < {bound:.0f} MiB | {verdict} |")
    lines += [
        "",
        "Not there yet, and so not measured: create from a warm pool, resume from disk.",
        "",
        "## Where the time of a create goes",
        "",
    ]
    lines += ["| phase | mean |", "|---|---|"]
    lines += [f"| {name} | {seconds * 1000:.1f} ms |" for name, seconds in phases.items()]
    lines += [
        "",
        "`record` and `publish` are the database; `prepare` takes a network slot and a disk from their pools and",
        "mounts the root file system; `start` is the one `runsc run`; `agent` is until the guest agent answers.",
        "",
    ]
    return "\n".join(lines)


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def kernel() -> str:
    return platform.release().split("-")[0]


def distribution() -> str:
    text = subprocess.run(
        ["sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"], capture_output=True, text=True, check=True
    )
    return text.stdout.strip()


if __name__ == "__main__":
    main()
