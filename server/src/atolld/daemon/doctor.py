"""Look at the machine and say what is wrong with it and what to do. Changes nothing.

Used by `atolld doctor` and by `GET /v1/doctor`.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.control.templates import TemplateSource
from atolld.daemon.linux import saves_of, store_of
from atolld.daemon.settings import Settings
from atolld.foundation.errors import AtollError, NotFound
from atolld.foundation.units import GIB, format_bytes
from atolld.host import facts, mounts
from atolld.host.cgroup_layout import read_layout
from atolld.host.diskstore import StorePlan
from atolld.host.netlink import read_uplink
from atolld.host.saves import Saves
from atolld.runtime.driver import Fingerprint

COMMAND_TIMEOUT_S = 10.0
SAVES_BUDGET_S = 5.0
LOW_DISK_BYTES = 5 * GIB
LOW_MEMORY_BYTES = GIB
BUILD_AGENT = "build it with `make agent`"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `remedy`: what to do when not ok; `fatal`: no sandbox can run until it is done."""

    name: str
    ok: bool
    summary: str
    remedy: str = ""
    fatal: bool = False


Fingerprints = Callable[[], Awaitable[Mapping[str, Fingerprint]]]


async def check_all(settings: Settings, fingerprints: Fingerprints, templates: TemplateSource) -> list[Finding]:
    """Every check, in the order a person would look. Commands have 10 s, a runtime's probe 20 s."""
    if settings.node == "fake":
        host = [Finding("node", True, "node=fake: nothing is isolated and nothing of the machine is needed")]
    else:
        host = await asyncio.to_thread(_check_host, settings)
    agent = await asyncio.to_thread(check_agent, settings.agent)
    try:
        runtimes = check_runtimes(await fingerprints())
    except AtollError as error:
        runtimes = [Finding("runtimes", False, error.message, "see the checks above", True)]
    return [*host, agent, check_templates(templates), *runtimes]


def _check_host(settings: Settings) -> list[Finding]:
    return [
        *check_basics(facts.find_faults()),
        check_cgroups(),
        check_uplink(read_uplink()),
        check_forward_policy(),
        check_memory(facts.read_memory()),
        check_disk(settings.state),
        check_disk(settings.cache_dir),
        check_store(store_of(settings).plan()),
        check_saves(saves_of(settings)),
    ]


def check_basics(faults: list[facts.Fault]) -> list[Finding]:
    """Root, kernel, file systems, nftables, programs and DNS: one finding a fault, or one that all is well."""
    if not faults:
        return [Finding("basics", True, "root, kernel, file systems, nftables, programs and DNS are as they should be")]
    # Without a name server sandboxes still run.
    return [Finding("basics", False, one.what, one.cure, fatal="DNS" not in one.what) for one in faults]


def check_agent(path: Path) -> Finding:
    """The guest agent is there and runs on this machine."""
    if not path.is_file():
        return Finding("agent", False, f"the guest agent is missing at {path}", BUILD_AGENT, True)
    try:
        told = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("agent", False, f"{path} cannot be run: {error}", BUILD_AGENT, True)
    if told.returncode != 0:
        return Finding("agent", False, f"{path} --version ended with {told.returncode}", BUILD_AGENT, True)
    return Finding("agent", True, told.stdout.strip()[:120], fatal=True)


def check_templates(templates: TemplateSource) -> Finding:
    """There is something to start sandboxes from."""
    names = [template.name for template in templates.list()]
    summary = f"templates: {', '.join(names)}" if names else "no template is built"
    if "base" in names:
        return Finding("templates", True, summary, fatal=True)
    return Finding("templates", False, summary, "build it with `python -m atolld.images ensure`", True)


def check_cgroups() -> Finding:
    """Limits can be enforced."""
    try:
        layout = read_layout(mounts.read_mounts())
    except AtollError as error:
        return Finding("cgroups", False, error.message, "mount the cgroup file systems", True)
    kind = f"{layout.mode.value}{' (hybrid)' if layout.hybrid else ''}"
    return Finding("cgroups", True, f"{kind} with {', '.join(sorted(layout.roots))}", fatal=True)


def check_uplink(uplink: tuple[str, int] | None) -> Finding:
    """The machine itself reaches something."""
    if uplink is None:
        return Finding("uplink", False, "this machine has no default route", "sandboxes have no internet until it has")
    return Finding("uplink", True, f"default route by {uplink[0]}, MTU {uplink[1]}")


def check_forward_policy() -> Finding:
    """No other firewall on this machine drops what sandboxes send."""
    name = "forward policy"
    nft = shutil.which("nft")
    if nft is None:
        return Finding(name, True, "not looked at: the command nft is not installed, and the daemon does not need it")
    told = subprocess.run(
        [nft, "list", "chains"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if told.returncode != 0:
        return Finding(name, False, f"nft cannot list chains: {told.stderr.strip()[:200]}", "run this as root")
    dropping = facts.forward_dropped_by(told.stdout)
    if not dropping:
        return Finding(name, True, "no other firewall of this machine drops forwarded packets by default")
    return Finding(
        name,
        False,
        f"{', '.join(dropping)} drops forwarded packets by default, so sandboxes may have no internet",
        "accept what comes from and goes to the sandboxes' interfaces there (with Docker: "
        "`iptables -I DOCKER-USER -i 'atoll-+' -j ACCEPT`, and the same with -o)",
    )


def check_memory(memory: facts.Memory) -> Finding:
    """There is room for a few sandboxes."""
    summary = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} available"
    if memory.available >= LOW_MEMORY_BYTES:
        return Finding("memory", True, summary)
    return Finding("memory", False, summary, "end something, or create sandboxes with less memory_mib")


def check_disk(directory: Path) -> Finding:
    """There is room for writable layers and templates."""
    disk = facts.read_disk(directory)
    summary = f"{format_bytes(disk.free)} free"
    if disk.free >= LOW_DISK_BYTES:
        return Finding(f"disk {directory}", True, summary)
    return Finding(f"disk {directory}", False, summary, f"free at least {format_bytes(LOW_DISK_BYTES)} there")


def check_store(plan: StorePlan) -> Finding:
    """Saving a sandbox and starting from a save copies nothing."""
    summary = f"{plan.kind.value}: {plan.reason}"
    if plan.clones:
        return Finding("disk store", True, f"{summary}; a saved disk is a clone")
    return Finding(
        "disk store",
        False,
        f"{summary}; saving a sandbox copies its disk, which takes seconds for gigabytes",
        "install xfsprogs and, while no sandbox runs and none is saved, start the daemon again; see docs/host.md",
    )


def check_saves(saves: Saves) -> Finding:
    """What was saved can still be read. Reads for `SAVES_BUDGET_S`, then goes on to the end of the save it reads."""
    try:
        ids = saves.ids()
    except PermissionError:
        return Finding("saves", True, "not looked at: run this as root")
    until = time.monotonic() + SAVES_BUDGET_S
    read, damaged = 0, []
    for id in ids:
        if time.monotonic() > until:
            break
        try:
            saves.verify(id)
        except NotFound:
            continue  # it was deleted meanwhile
        except AtollError as error:
            damaged.append(error.message)
        read += 1
    if damaged:
        remedy = "delete the snapshot, or kill the paused sandbox it belongs to; look at the disk with smartctl"
        return Finding("saves", False, "; ".join(damaged)[:1000], remedy)
    how_many = f"{read} of {len(ids)} saves were read" if read < len(ids) else f"{len(ids)} saves"
    return Finding("saves", True, f"{how_many}, all as they were written")


def check_runtimes(found: Mapping[str, Fingerprint]) -> list[Finding]:
    """What each runtime says about itself; one that works is enough."""
    any_usable = any(fingerprint.usable for fingerprint in found.values())
    return [
        Finding(
            f"runtime {name}",
            fingerprint.usable,
            f"{fingerprint.version}: {fingerprint.isolation}" if fingerprint.usable else fingerprint.reason,
            "" if fingerprint.usable else "the reason says what is missing; other runtimes are not touched by it",
            fatal=not any_usable,
        )
        for name, fingerprint in found.items()
    ]
