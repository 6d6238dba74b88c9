"""One control group per sandbox: its limits, its use, its end.

A sandbox's group is `/<instance>/<id>` in each version 1 hierarchy, or in the unified version 2 tree, at the top and
not below the daemon's own service: systemd kills what is in a service when it restarts it, and sandboxes survive that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Unavailable
from atolld.foundation.units import MIB
from atolld.host.cgroup_layout import NEEDED, CgroupLayout, CgroupMode
from atolld.host.instance import Instance, check_item
from atolld.host.procs import identify, open_pidfd

log = logging.getLogger("atolld.cgroups")

_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000
_KILL_TRIES = 400
_KILL_PAUSE_S = 0.005
_FREEZE_TRIES = 1000
_FREEZE_PAUSE_S = 0.002


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """`cpu` in cores, `memory_bytes` without any swap, `pids_max` host tasks (processes and threads)."""

    cpu: float
    memory_bytes: int
    pids_max: int

    @classmethod
    def of(cls, resources: Resources, *, extra_memory_mib: int = 0, extra_pids: int = 0) -> CgroupLimits:
        """A sandbox's bounds, plus what its runtime itself needs on the host (gVisor's sentry and gofer, QEMU)."""
        return cls(
            cpu=resources.cpu,
            memory_bytes=(resources.memory_mib + extra_memory_mib) * MIB,
            pids_max=resources.pids_max + extra_pids,
        )


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """Use now. `memory_bytes` leaves out file cache that the kernel can drop at once.

    `oom_kills`: how many processes the kernel killed for the limit.
    """

    cpu_usec: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int
    tasks: int
    oom_kills: int


class Cgroups:
    """The groups of one instance. Calls that only read or write a few files block for well under a millisecond."""

    def __init__(self, instance: Instance, layout: CgroupLayout) -> None:
        self._parent = f"/{instance.name}"
        self.layout = layout

    def path(self, id: str) -> str:
        """The group of `id` as runtimes name it: below each hierarchy's root. Raises InvalidArgument on a bad id."""
        return f"{self._parent}/{check_item(id)}"

    def prepare(self) -> None:
        """Make the instance's parent group and pass the controllers down to it. Idempotent.

        Raises Unavailable when the kernel refuses (a container without a delegated tree), saying what to do.
        """
        for directory in self.layout.directories(self._parent):
            directory.mkdir(mode=0o755, exist_ok=True)
        if self.layout.mode is CgroupMode.V2:
            root = self.layout.roots["cpu"]
            for group in (root, root / self._parent.lstrip("/")):
                _pass_down(group)

    def create(self, id: str, limits: CgroupLimits) -> str:
        """Make the group of `id` with its limits and return its path; existing gets the new limits. Raises OSError."""
        path = self.path(id)
        for directory in self.layout.directories(path):
            directory.mkdir(mode=0o755, exist_ok=True)
        self.set_limits(id, limits)
        return path

    def set_limits(self, id: str, limits: CgroupLimits) -> None:
        """Change the limits of a group, also while it runs. Raises OSError (EBUSY below what is in use on v1)."""
        quota = max(_MIN_QUOTA_US, round(limits.cpu * _PERIOD_US))
        if self.layout.mode is CgroupMode.V2:
            self._write(id, "cpu", "cpu.max", f"{quota} {_PERIOD_US}")
            self._write(id, "memory", "memory.max", str(limits.memory_bytes))
            self._write(id, "memory", "memory.swap.max", "0", optional=True)
            # As on v1, and as on a machine of its own: one process dies, not the whole sandbox.
            self._write(id, "memory", "memory.oom.group", "0", optional=True)
        else:
            self._write(id, "cpu", "cpu.cfs_period_us", str(_PERIOD_US))
            self._write(id, "cpu", "cpu.cfs_quota_us", str(quota))
            self._write_memory_v1(id, limits.memory_bytes)
        self._write(id, "pids", "pids.max", str(limits.pids_max))

    def limits(self, id: str) -> CgroupLimits:
        """The limits as they are set now. Raises FileNotFoundError when the group is gone."""
        if self.layout.mode is CgroupMode.V2:
            quota, period = self._read(id, "cpu", "cpu.max").split()
            memory = self._read(id, "memory", "memory.max")
        else:
            quota, period = (self._read(id, "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            memory = self._read(id, "memory", "memory.limit_in_bytes")
        return CgroupLimits(int(quota) / int(period), int(memory), int(self._read(id, "pids", "pids.max")))

    def entrance(self, id: str, controller: str = "memory") -> Path:
        """The file that a process writes its number to, to be in the group of `controller`."""
        return self.layout.directory(controller, self.path(id)) / "cgroup.procs"

    def add(self, id: str, pid: int) -> None:
        """Move a process, with all its threads, into the group. Raises OSError (ESRCH when it is gone)."""
        for directory in self.layout.directories(self.path(id)):
            (directory / "cgroup.procs").write_text(str(pid))

    def pids(self, id: str) -> set[int]:
        """The processes in the group and below it; empty when the group is gone."""
        found: set[int] = set()
        for directory in self.layout.directories(self.path(id)):
            for group in (directory, *_below(directory)):
                found.update(_members(group))
        return found

    def stats(self, id: str) -> CgroupStats:
        """Raises FileNotFoundError when the group is gone."""
        return (self._stats_v2 if self.layout.mode is CgroupMode.V2 else self._stats_v1)(id)

    def oom_kills(self, id: str) -> int:
        """How many processes the kernel killed for the memory limit; 0 when the group is gone."""
        name = "memory.events" if self.layout.mode is CgroupMode.V2 else "memory.oom_control"
        try:
            return _keyed(self._read(id, "memory", name)).get("oom_kill", 0)
        except FileNotFoundError:
            return 0

    async def freeze(self, id: str) -> None:
        """Stop every process of the group where it is, and return when all have stopped; frozen is success.

        Raises FileNotFoundError when the group is gone, TimeoutError when something does not stop within two seconds
        (it hangs in the kernel), OSError. Then, and when the caller is cancelled, the group is thawed again.
        """
        self._set_frozen(id, True)
        try:
            for _ in range(_FREEZE_TRIES):
                if self.is_frozen(id):
                    return
                await asyncio.sleep(_FREEZE_PAUSE_S)
        except BaseException:
            self._thaw_if_there(id)
            raise
        self._thaw_if_there(id)
        raise TimeoutError(f"processes {sorted(self.pids(id))} of {self.path(id)} cannot be stopped")

    def thaw(self, id: str) -> None:
        """Let a frozen group run on; not frozen is success. Raises FileNotFoundError when it is gone, OSError."""
        self._set_frozen(id, False)

    def is_frozen(self, id: str) -> bool:
        """Whether every process of the group stands still by `freeze`; False while some still run, or it is gone."""
        try:
            if self.layout.mode is CgroupMode.V2:
                return _keyed(self._read(id, "cpu", "cgroup.events")).get("frozen") == 1
            # FREEZING until the last has stopped; only this file's reading moves it on.
            return self._read(id, "freezer", "freezer.state").strip() == "FROZEN"
        except FileNotFoundError:
            return False

    async def kill(self, id: str) -> None:
        """Kill every process of the group and wait until none is left; gone is success.

        Raises TimeoutError when one survives SIGKILL for two seconds (it hangs in the kernel), naming it.
        """
        for _ in range(_KILL_TRIES):
            left = self.pids(id)
            if not left:
                return
            self._kill_once(id, left)
            await asyncio.sleep(_KILL_PAUSE_S if self.pids(id) else 0)
        raise TimeoutError(f"processes {sorted(self.pids(id))} of {self.path(id)} survive SIGKILL")

    async def destroy(self, id: str) -> None:
        """Kill what is left and remove the group; gone is success. Raises OSError, TimeoutError (see `kill`)."""
        await self.kill(id)
        for directory in self.layout.everywhere(self.path(id)):
            for group in (*_below(directory), directory):
                await _remove(group)

    def list_owned(self) -> set[str]:
        """Ids of every group of this instance, in whichever hierarchy one is left."""
        found: set[str] = set()
        for directory in self.layout.everywhere(self._parent):
            with contextlib.suppress(FileNotFoundError):
                found.update(entry.name for entry in os.scandir(directory) if entry.is_dir())
        return found

    async def remove_all(self) -> None:
        """Destroy every group and the instance's own. Idempotent. Raises OSError, TimeoutError."""
        for id in self.list_owned():
            await self.destroy(id)
        for directory in self.layout.everywhere(self._parent):
            await _remove(directory)

    def _write_memory_v1(self, id: str, limit: int) -> None:
        # memory.limit must stay at or below memsw.limit: when growing the second goes first, when shrinking the first.
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        if limit > int(self._read(id, "memory", names[0])):
            names.reverse()
        for name in names:
            self._write(id, "memory", name, str(limit), optional="memsw" in name)
        self._write(id, "memory", "memory.swappiness", "0", optional=True)

    def _set_frozen(self, id: str, frozen: bool) -> None:
        if self.layout.mode is CgroupMode.V2:
            self._write(id, "cpu", "cgroup.freeze", "1" if frozen else "0")
        else:
            self._write(id, "freezer", "freezer.state", "FROZEN" if frozen else "THAWED")

    def _thaw_if_there(self, id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._set_frozen(id, False)

    def _kill_once(self, id: str, pids: set[int]) -> None:
        if self.layout.mode is CgroupMode.V2:
            with contextlib.suppress(FileNotFoundError):  # kernels before 5.14 lack the file
                self._write(id, "cpu", "cgroup.kill", "1")
                return
        # Frozen, none of them forks away between being listed and being killed, and no pid is reused.
        with contextlib.suppress(FileNotFoundError):
            self._set_frozen(id, True)
        try:
            for pid in self.pids(id) or pids:
                _kill_member(pid, self.path(id))
        finally:
            self._thaw_if_there(id)

    def _stats_v1(self, id: str) -> CgroupStats:
        memory = _keyed(self._read(id, "memory", "memory.stat"))
        return CgroupStats(
            cpu_usec=int(self._read(id, "cpuacct", "cpuacct.usage")) // 1000,
            memory_bytes=max(
                0, int(self._read(id, "memory", "memory.usage_in_bytes")) - memory.get("total_inactive_file", 0)
            ),
            memory_peak_bytes=int(self._read(id, "memory", "memory.max_usage_in_bytes")),
            memory_limit_bytes=int(self._read(id, "memory", "memory.limit_in_bytes")),
            tasks=int(self._read(id, "pids", "pids.current")),
            oom_kills=self.oom_kills(id),
        )

    def _stats_v2(self, id: str) -> CgroupStats:
        memory = _keyed(self._read(id, "memory", "memory.stat"))
        current = int(self._read(id, "memory", "memory.current"))
        try:
            peak = int(self._read(id, "memory", "memory.peak"))
        except FileNotFoundError:  # kernels before 5.19
            peak = current
        return CgroupStats(
            cpu_usec=_keyed(self._read(id, "cpu", "cpu.stat"))["usage_usec"],
            memory_bytes=max(0, current - memory.get("inactive_file", 0)),
            memory_peak_bytes=peak,
            memory_limit_bytes=int(self._read(id, "memory", "memory.max")),
            tasks=int(self._read(id, "pids", "pids.current")),
            oom_kills=self.oom_kills(id),
        )

    def _read(self, id: str, controller: str, name: str) -> str:
        return (self.layout.directory(controller, self.path(id)) / name).read_text()

    def _write(self, id: str, controller: str, name: str, value: str, *, optional: bool = False) -> None:
        path = self.layout.directory(controller, self.path(id)) / name
        if optional and not path.exists():
            # The kernel was built without it (swap accounting, an older kernel).
            return
        try:
            path.write_text(value)
        except OSError as error:
            raise OSError(error.errno, f"write {value!r}: {error.strerror}", str(path)) from error


def _keyed(text: str) -> Mapping[str, int]:
    """`name number` lines as a mapping; other lines are left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _members(group: Path) -> set[int]:
    try:
        return set(map(int, (group / "cgroup.procs").read_text().split()))
    except OSError as error:
        # ENODEV: it was removed while its file was open.
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return set()
        raise


def _pass_down(group: Path) -> None:
    enabled = set((group / "cgroup.subtree_control").read_text().split())
    missing = [name for name in NEEDED if name not in enabled]
    if not missing:
        return
    try:
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
    except OSError as error:
        raise Unavailable(
            f"the cgroup controllers {', '.join(missing)} cannot be passed down from {group} ({error.strerror}); "
            "inside a container or a service, delegate the tree (systemd: Delegate=yes) or run the daemon on the host"
        ) from error


def _below(directory: Path) -> list[Path]:
    """Every group below, deepest first: the order to remove them in."""
    return [Path(top) / name for top, names, _ in os.walk(directory, topdown=False) for name in names]


def _kill_member(pid: int, path: str) -> None:
    process = identify(pid)
    descriptor = open_pidfd(process) if process else None
    if descriptor is None:
        return
    try:
        # Checked with the descriptor open: the pid means this process for as long as it is.
        groups = [line.split(":", 2)[-1] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        if any(group == path or group.startswith(f"{path}/") for group in groups):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return
    finally:
        os.close(descriptor)


async def _remove(group: Path) -> None:
    for attempt in range(_KILL_TRIES):
        try:
            os.rmdir(group)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            # The kernel lets go of a group a moment after its last process is reaped.
            if error.errno != errno.EBUSY or attempt == _KILL_TRIES - 1:
                raise
        await asyncio.sleep(_KILL_PAUSE_S)
