"""What sandboxes, forks and saves take: memory by the host's own count and by their control groups, and disk."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from atoll import Sandbox
from atolld.host.cgroup_layout import CgroupMode, read_layout
from atolld.host.mounts import read_mounts
from bench.pools import kill_all
from bench.report import Bound, Fact
from bench.setting import Setting
from bench.state import open_sandbox

MIB = 2**20
REST_S = 1.5
COUNT = 10
FIT_GIB = 8

_IDLE = "CubeSandbox about 25 MB each, of 1000; on PVM 27–34 MB; Firecracker's own part ≤ 5 MiB"
_FROZEN = "Dormice ≤ 5 MiB"
_FORK = "forkd 0.12 MiB; mitos about 3 MiB; CubeSandbox 5 MiB as forkd measured it"
_FIT = "CubeSandbox on PVM: 743 idle in 32 GiB (estimated), which is 186 in 8 GiB"


@dataclass(frozen=True)
class Taken:
    """Bytes in use now: `host` by MemAvailable (negative: less is available), `groups` by the sandboxes' control
    groups, `disk` of the file system that layers and saves lie on."""

    host: int
    groups: int
    disk: int

    def since(self, before: Taken, each: int) -> Taken:
        """What came on top, for each of `each`."""
        return Taken(
            (self.host - before.host) // each, (self.groups - before.groups) // each, (self.disk - before.disk) // each
        )


def taken(setting: Setting) -> Taken:
    """After all has come to rest and what is dirty was written."""
    time.sleep(REST_S)
    store = setting.daemon.state_dir / "layers"
    subprocess.run(["sync", "-f", str(store)], check=True)
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    blocks = os.statvfs(store)
    return Taken(-available, _groups(setting.daemon.instance), (blocks.f_blocks - blocks.f_bfree) * blocks.f_frsize)


def space(setting: Setting) -> None:
    """Ten of each; the difference divided by ten."""
    add, client = setting.results.add, setting.client
    count = min(COUNT, setting.counts.many)
    before = taken(setting)
    sandboxes = [Sandbox.create(timeout_s=3600, config=client) for _ in range(count)]
    try:
        idle = taken(setting).since(before, count)
        for sandbox in sandboxes:
            sandbox.freeze()
        frozen = taken(setting).since(before, count)
        for sandbox in sandboxes:
            sandbox.pause()
        paused = taken(setting).since(before, count)
    finally:
        kill_all(sandboxes)
    for name, one, others in (("an idle", idle, _IDLE), ("a frozen", frozen, _FROZEN)):
        note = f"{one.groups / MIB:.1f} MiB by its control group"
        add(Fact(f"resident memory of {name} sandbox", one.host / MIB, "MiB", others, note))
    # Not by the host's count: what saving leaves or frees of the page cache is more than what a paused one has left.
    add(Fact("resident memory of a paused sandbox, by its control group", max(0, paused.groups) / MIB, "MiB"))
    add(Fact("disk of a paused sandbox", paused.disk / MIB, "MiB"))
    for name, one, others in (("idle", idle, _FIT), ("frozen", frozen, "")):
        # The larger of the two counts; one of them may be spoilt by what else the machine does.
        fit = FIT_GIB * 1024 * MIB // max(1, one.host, one.groups)
        add(Fact(f"{name} sandboxes that fit in {FIT_GIB} GiB, computed", fit, "", others))
    with open_sandbox(setting, holding=False) as sandbox:
        before = taken(setting)
        siblings = list(sandbox.fork(count))
        try:
            fork = taken(setting).since(before, count)
        finally:
            kill_all(siblings)
    note = f"{fork.groups / MIB:.1f} MiB by its control group"
    add(
        Fact(f"memory of a fork, of {count}", fork.host / MIB, "MiB", _FORK, note),
        Fact(f"disk of a fork, of {count}", fork.disk / MIB, "MiB"),
    )


def ours(setting: Setting, base_rss: int, count: int = 20) -> None:
    """Our own memory for each idle sandbox: the daemon's growth, and the agent's resident set as the guest sees it."""
    sandboxes = [Sandbox.create(memory_mib=128, config=setting.client) for _ in range(count)]
    try:
        grown = max(0, setting.daemon.rss_bytes() - base_rss) / count
        agent = int(sandboxes[0].run("awk '/VmRSS/{print $2}' /proc/1/status", user="root").stdout)
    finally:
        kill_all(sandboxes)
    setting.results.add(
        Bound("our daemon's memory per idle sandbox", grown / MIB, "MiB", 1.0),
        Bound("the agent's memory per idle sandbox", agent / 1024, "MiB", 4.0),
    )


def _groups(instance: str) -> int:
    layout = read_layout(read_mounts())
    file = "memory.current" if layout.mode is CgroupMode.V2 else "memory.usage_in_bytes"
    root = layout.roots["memory"]
    groups = (*root.glob(f"{instance}/*/{file}"), *root.glob(f"*/{instance}/*/{file}"))
    return sum(int(path.read_text()) for path in groups)
