"""The driver interface: few verbs on ids, a versioned handle, and recovery that is not optional.

A driver turns a prepared root file system, network namespace and cgroup into a running sandbox whose PID 1 is the
guest agent. It keeps no state of its own that a restart of the daemon would lose: everything it needs later is in
the `Handle`, which the daemon stores, or can be read from the machine. Sandboxes are not children of the daemon.

Life: `create` (nothing of the guest runs yet) -> `start` -> (`inspect`, `stats`, `wait`) -> `stop` -> `destroy`; or
`restore` in place of the first two, on its own or into what `prepare` made beforehand. In between: `suspend` ->
`checkpoint` -> `unsuspend`, and `freeze` -> `thaw`. `destroy` is allowed at any time, also on what was half made, and
takes "already gone" as success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from atolld.core.sandbox import Resources
from atolld.foundation.ids import SandboxId


class Power(StrEnum):
    """Optional things a driver can do; a driver that cannot says why in `Fingerprint.missing`."""

    CHECKPOINT = "checkpoint"
    RESTORE = "restore"
    FREEZE = "freeze"
    OWN_KERNEL = "own_kernel"
    PREPARED = "prepared"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a driver found on this machine.

    `usable` False: `reason` is the sentence shown to the user, with what to do about it. `missing` maps each power the
    driver lacks to its sentence. `isolation` is one sentence for people: what stands between guest and host.
    """

    driver: str
    usable: bool
    reason: str
    version: str
    isolation: str
    missing: Mapping[Power, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """All that a driver needs to run one sandbox; every path exists and is prepared before `create`.

    `rootfs`: mounted root file system, writable. `netns`: network namespace file. `agent`: host path of the static
    agent, to be bind-mounted read-only at `/.atoll/agent`. `log`: file that takes the agent's stdout and stderr (it
    lies in the sandbox's own writable layer, so it is bounded). `directory`: empty directory for the driver's own
    files, removed by `destroy`. `cgroup`: path below each controller's root, for example `/atoll/i3f...`; made and
    removed by the node, limits already set. `env`: environment of PID 1 (no secrets: it can be read in the guest).
    """

    id: SandboxId
    rootfs: Path
    netns: Path
    agent: Path
    log: Path
    directory: Path
    cgroup: str
    resources: Resources
    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShellKind:
    """What of a guest is fixed when its shell is prepared: its memory, processes and CPUs as it sees them, and whether
    the agent takes the place of its sudo."""

    memory_mib: int
    pids_max: int
    cpus: int
    agent_sudo: bool


@dataclass(frozen=True, slots=True)
class ShellSpec:
    """A `LaunchSpec` of which the guest, and so its root file system, is not known yet; `kind` fits `resources`.

    `log` must exist as long as the sandbox; it is not bounded by the sandbox's disk.
    """

    id: SandboxId
    netns: Path
    agent: Path
    log: Path
    directory: Path
    cgroup: str
    resources: Resources
    kind: ShellKind


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the runtime itself takes on the host for one sandbox: memory in MiB, host tasks in number.

    Added to the cgroup's limits, so that a guest gets all of its own.
    """

    memory_mib: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Handle:
    """A driver's private record of one sandbox: stored by the daemon, read by the driver and its later versions."""

    driver: str
    version: int
    id: SandboxId
    data: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The form that is stored."""
        return {"driver": self.driver, "version": self.version, "id": self.id, "data": dict(self.data)}

    @staticmethod
    def from_json(stored: Mapping[str, object]) -> Handle:
        """Raises ValueError when `stored` is not a handle."""
        driver, version, id_, data = (stored.get(k) for k in ("driver", "version", "id", "data"))
        if not (
            isinstance(driver, str) and isinstance(version, int) and isinstance(id_, str) and isinstance(data, dict)
        ):
            raise ValueError(f"not a driver handle: {stored!r}")
        return Handle(driver, version, SandboxId(id_), data)


class TaskState(StrEnum):
    """Whether the sandbox's processes exist."""

    CREATED = "created"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What `inspect` saw. `host_pid`: the process that keeps the sandbox alive, None when gone.

    `out_of_memory`: the kernel killed something of it for its memory limit.
    """

    state: TaskState
    host_pid: int | None = None
    out_of_memory: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class TaskStats:
    """Use of resources now: CPU time in microseconds since the start, memory in bytes, host tasks in number."""

    cpu_usec: int
    memory_bytes: int
    memory_peak_bytes: int
    tasks: int


class RuntimeDriver(Protocol):
    """One isolation runtime on one machine."""

    @property
    def name(self) -> str:
        """Stable short name: `gvisor`, `container`, `fake`."""
        ...

    def overhead(self, resources: Resources) -> Overhead:
        """What one sandbox with these bounds takes besides the guest's own use."""
        ...

    async def fingerprint(self) -> Fingerprint:
        """Look at the machine; may run a probe (bounded, at most 20 s) the first time and answers from memory after."""
        ...

    async def create(self, spec: LaunchSpec) -> Handle:
        """Make everything ready without running guest code.

        Raises AlreadyExists when the id exists, RuntimeUnusable when the runtime cannot be used, Internal when the
        runtime refuses (with the runtime's own last words).
        """
        ...

    async def start(self, handle: Handle) -> Handle:
        """Run the sandbox; returns the handle to store from now on. Raises Internal when the runtime refuses."""
        ...

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """Ask PID 1 to end, wait at most `grace_s`, then kill everything. Gone afterwards; success if gone before."""
        ...

    async def suspend(self, handle: Handle) -> None:
        """Stop every task of the guest where it is, so that `checkpoint` finds it unchanging. Suspended already is
        success; one that is frozen is not frozen any more. Raises NotFound when it is gone, FailedPrecondition when the
        driver lacks Power.CHECKPOINT, Internal.
        """
        ...

    async def unsuspend(self, handle: Handle) -> None:
        """Let a suspended guest go on; one that is not suspended is success. Raises NotFound, Internal."""
        ...

    async def checkpoint(self, handle: Handle, directory: Path, *, end_connections: bool) -> None:
        """Write the memory of a suspended guest into the empty `directory`; it stays suspended, whatever happens.

        All that the guest has written to files is on its root file system afterwards. `end_connections`: it may have
        TCP connections to the outside; they end with an error, in the guest that goes on as in one that is restored.
        Connections within the guest go on.

        Raises FailedPrecondition with a sentence for the user when the guest holds something that cannot be saved (it
        names the file), or when the driver lacks Power.CHECKPOINT; Capacity when the disk is full; NotFound when it is
        gone; Internal. What was written then is worthless. Nothing is synced to the disk. A caller that is cancelled
        waits for the end of the writing.
        """
        ...

    async def restore(self, spec: LaunchSpec, directory: Path, into: Handle | None = None) -> Handle:
        """As `create` and `start` in one, from what `checkpoint` wrote; reads `directory` and never changes it.

        `spec.rootfs` holds the files as they were at the checkpoint. The namespace may have another address.
        `into`: what `prepare` returned for the same id, places and bounds of memory; it is used up, however this ends.
        Raises as `create` and `start`, and FailedPrecondition when the driver lacks Power.RESTORE or `into` is of
        another kind.
        """
        ...

    async def start_into(self, spec: LaunchSpec, into: Handle) -> Handle:
        """As `create` and `start` in one, in what `prepare` returned for the same id, places and bounds of memory; that
        is used up, however this ends. The host name is not set: the agent is to do that.

        Raises as `create` and `start`, and FailedPrecondition when the driver lacks Power.PREPARED or `into` is of
        another kind.
        """
        ...

    async def shell_kind(
        self, resources: Resources, directory: Path | None = None, layers: Sequence[Path] | None = None
    ) -> ShellKind | None:
        """What kind of shell the guest saved in `directory` needs to go on within `resources`; None: there is none.

        With `layers` (read-only roots, lowest first) instead, what a new guest on them needs; with neither, what most
        guests with these bounds need. None too without Power.PREPARED. Raises Internal when the save is damaged,
        RuntimeUnusable.
        """
        ...

    async def prepare(self, spec: ShellSpec) -> Handle:
        """Make a shell: all of a sandbox that can be made before the guest is known, so that a restore is quicker.

        It counts as a sandbox that was created, for every other verb. Raises as `create`, and FailedPrecondition when
        the driver lacks Power.PREPARED.
        """
        ...

    async def freeze(self, handle: Handle) -> None:
        """Take all CPU from the sandbox, keeping its memory; frozen already is success.

        Returns when nothing of it runs any more. Raises NotFound, FailedPrecondition without Power.FREEZE.
        """
        ...

    async def thaw(self, handle: Handle) -> None:
        """Undo `freeze`; not frozen is success. Raises NotFound."""
        ...

    async def inspect(self, handle: Handle) -> TaskStatus:
        """Where it stands, from the machine and never from memory."""
        ...

    async def stats(self, handle: Handle) -> TaskStats:
        """Raises NotFound when the sandbox is gone."""
        ...

    async def wait(self, handle: Handle) -> TaskStatus:
        """Return when the sandbox is gone; works for sandboxes that another daemon process started."""
        ...

    async def recover(self, handle: Handle) -> TaskStatus:
        """Take over a sandbox that an earlier daemon started.

        Raises FailedPrecondition when the handle's version is newer than this driver knows.
        """
        ...

    async def destroy(self, handle: Handle) -> None:
        """Kill and remove everything the driver made; idempotent, also on what is half made."""
        ...

    async def list_owned(self) -> list[SandboxId]:
        """Every sandbox of this instance the runtime knows of, so that leftovers of a crash are found."""
        ...

    def handle_for(self, id: SandboxId, directory: Path) -> Handle:
        """A handle good enough for `destroy`, for a sandbox whose handle was never stored."""
        ...
