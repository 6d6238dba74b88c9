"""The node boundary: what control may ask of the place where sandboxes run.

There is one implementation in process (`atolld.node.manager`); a remote one must be able to stand behind the same
verbs, so everything that crosses is a plain value and nothing is a path of the host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.runtime.driver import Fingerprint


@dataclass(frozen=True, slots=True)
class Launch:
    """One sandbox to be started. `layers`: read-only root file system layers, lowest first.

    `agent_token` and `envs` are given to the agent over its own connection, never by environment or file.
    `source`: start from this save instead of from nothing; `layers` are those its disk lies on. `formerly`: the stored
    handle of an earlier run of the same sandbox, whose address it gets again when that is free. `user`: runs commands
    that name nobody, from `workdir` on (None: from that user's home); what starts from memory knows both already.
    """

    id: SandboxId
    runtime: str
    layers: tuple[Path, ...]
    resources: Resources
    network: NetworkPolicy
    envs: Mapping[str, str]
    agent_token: str
    template_id: str
    hostname: str
    source: Source | None = None
    formerly: Mapping[str, object] | None = None
    user: str = "user"
    workdir: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A save to start from. `agent_token`: the one that the saved agent knows; only used with `MEMORY`."""

    save_id: SnapshotId
    kind: SaveKind
    agent_token: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a warm sandbox becomes when it is claimed: see `Node.claim`."""

    envs: Mapping[str, str]
    network: NetworkPolicy
    resources: Resources


class After(StrEnum):
    """What a guest does when it is saved: go on at once, or stand still until `go_on` or `terminate`."""

    GO_ON = "go_on"
    STAND = "stand"


@dataclass(frozen=True, slots=True)
class Launched:
    """A sandbox that answers. `address`: IPv4 address of the sandbox as the host reaches it; `handle`: to be stored.

    `phases_s` names where the time of the launch went, in seconds, in order.
    """

    address: str
    handle: Mapping[str, object]
    phases_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Known:
    """What storage knows of a sandbox when the node is asked to recover it.

    `standing`: it may stand still, because a save of it was being written when the daemon ended. `frozen`: it shall be.
    """

    id: SandboxId
    runtime: str
    resources: Resources
    address: str | None
    handle: Mapping[str, object] | None
    agent_token: str
    network: NetworkPolicy
    frozen: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True)
class Death:
    """A sandbox that ended by itself: `reason` is OUT_OF_MEMORY or CRASHED, `message` for people."""

    id: SandboxId
    reason: EndReason
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample: CPU in percent of one core since the sample before, memory and disk in bytes, at Unix seconds."""

    at: float
    cpu_count: float
    cpu_used_pct: float
    memory_used_bytes: int
    memory_total_bytes: int
    memory_cache_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """Room on the machine: totals, and what running and starting sandboxes have taken of them."""

    cpu_total: float
    cpu_taken: float
    memory_total_mib: int
    memory_taken_mib: int
    disk_free_mib: int
    sandboxes: int
    max_sandboxes: int

    def too_large(self, resources: Resources) -> str | None:
        """Why a sandbox of these bounds can never be on this machine, however empty it is; None when it can."""
        if resources.cpu > self.cpu_total:
            return f"cpu is {resources.cpu:g}, but the machine has {self.cpu_total:g} cores; ask for less"
        if resources.memory_mib > self.memory_total_mib:
            return f"memory_mib is {resources.memory_mib}, but the machine has {self.memory_total_mib}; ask for less"
        return None


DeathListener = Callable[[Death], Awaitable[None]]

# Told of an archive's facts and of the save it would become, before anything of it is stored; what it raises ends that.
Admit = Callable[[Mapping[str, object], Saved], Awaitable[None]]


class Node(Protocol):
    """One machine's running sandboxes."""

    async def start(self, on_death: DeathListener) -> None:
        """Prepare pools; `on_death` is told of every sandbox that ends without `terminate`."""
        ...

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """What each runtime found, by name."""
        ...

    async def launch(self, what: Launch) -> Launched:
        """Start a sandbox and wait until its agent answers. An earlier run of it must have been terminated, even if
        that has failed so far or is not done.

        Raises, before anything is made, Capacity when the machine has no room and InvalidArgument when it never can
        have; RuntimeUnusable, NotFound for an unknown runtime, Internal or GuestUnreachable when it does not come up;
        whatever was made is gone when it raises.
        """
        ...

    async def terminate(self, id: SandboxId, grace_s: float = 0.0, *, keep_address: bool = False) -> None:
        """End a sandbox and remove everything of it. Idempotent; nothing of it is left when it returns.

        `keep_address`: it will be launched again, so its address goes to others only when none else is left. One that
        stands still after a save always keeps it, until it is launched or terminated again.
        """
        ...

    async def seal(
        self, id: SandboxId, digest: str, manifest: Mapping[str, object], *, forbidden: Sequence[str] = ()
    ) -> bool:
        """End a sandbox of a build and keep what it changed as the layer `digest` of the machine's layers; False, and
        no layer, when it changed nothing. A layer of that digest that is there already is success, and stays.

        Its processes are killed at once. What the runtime, the node and the agent put there is no part of the layer,
        and neither are sockets and devices. `forbidden`: texts that must be in no file of it, see
        `atolld.images.sealing`. The layer is not pruned for an hour, and nor are those below. Nothing of the sandbox is
        left when it returns or raises.

        Raises NotFound; FailedPrecondition when a file, which it names, holds a forbidden text, when there is more than
        a layer may have, or when the sandbox was ended meanwhile; Capacity when the disk is full. No layer then.
        """
        ...

    async def recover(
        self, known: list[Known], paused: Mapping[SandboxId, Mapping[str, object]] | None = None
    ) -> dict[SandboxId, Death | None]:
        """After a restart: take over each sandbox in `known` that still runs (None), tell how the others ended, and
        remove every resource of this instance that belongs to none that still runs.

        `paused`: the stored handles of those that may come back; their addresses are kept for them as long as there
        are others. One that stands still goes on again if `Known.standing` says that it may; one whose `Known.frozen`
        is False is thawed, and one with it True is frozen."""
        ...

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """Write a save of a running sandbox to disk: whole, with checksums, and named `save_id` when this returns.

        The guest stands still only as long as it must; with `After.STAND` it stays so. Open connections from and to the
        outside end. One that was frozen is not any more, however this ends.

        Raises NotFound, FailedPrecondition (the runtime cannot do it, or the guest holds what cannot be saved),
        Capacity when there is no room for it, Internal. Then the guest goes on and nothing of the save is left.
        """
        ...

    async def go_on(self, id: SandboxId) -> None:
        """Let a sandbox that stands still after a save go on; one that does not is success. Raises NotFound."""
        ...

    async def freeze(self, id: SandboxId) -> None:
        """Stop its processes where they are; frozen is success. Raises NotFound, FailedPrecondition."""
        ...

    async def thaw(self, id: SandboxId) -> None:
        """Let a frozen sandbox run; not frozen is success. Raises NotFound."""
        ...

    async def stand_by(self, id: SandboxId) -> None:
        """Let a sandbox that is nobody's yet wait for `claim`: what its first command needs is brought into memory, and
        then it stands still, where the runtime can do that, and takes no CPU. Raises NotFound.
        """
        ...

    async def claim(self, id: SandboxId, what: Claim) -> None:
        """Make a warm sandbox somebody's: network policy, CPU, variables. It keeps its token, which nobody was told.
        When this fails it may be changed in part, and should be ended.

        Raises NotFound, FailedPrecondition when the runtime cannot change what differs, GuestUnreachable.
        """
        ...

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """The save if it is whole on disk, else None."""
        ...

    async def discard_save(self, save_id: SnapshotId) -> None:
        """Delete a save; gone is success. One that is being read by a launch is deleted when that has ended."""
        ...

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """Delete every save of this instance that is not in `keep`; returns what was deleted."""
        ...

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """What files differ, in order of their paths, at most `limit`; `older` None: against the template.

        Raises NotFound, FailedPrecondition when the two lie on different templates.
        """
        ...

    def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncIterator[bytes]:
        """The save as one signed stream, read-only layers included, for `import_save`.

        `facts` (JSON values): what the importer is to know of it; part of what is signed. Raises NotFound and
        FailedPrecondition (damaged) before the first byte.
        """
        ...

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """Store what `export_save` gave, on this machine or another, under a new id.

        `admit` is called once, when the sender is known to be trusted and the save to fit this machine.
        Raises what `admit` raises, InvalidArgument when the stream is damaged or not such a stream, PermissionDenied
        when it was written by a machine that is not trusted, FailedPrecondition when engine or CPU cannot run it,
        Capacity. Nothing is left then.
        """
        ...

    async def usage(self, id: SandboxId) -> Usage:
        """A fresh sample. Raises NotFound."""
        ...

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """Change the egress policy of a running sandbox without a gap. Raises NotFound."""
        ...

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """The last `limit_bytes` of the agent's log (JSON lines, untrusted). Raises NotFound."""
        ...

    def capacity(self) -> NodeCapacity:
        """Room now."""
        ...

    def gauges(self) -> Mapping[str, float]:
        """Pool sizes and the like, by metric name, for `/metrics`."""
        ...

    async def close(self) -> None:
        """Stop background work and give back pools; running sandboxes go on."""
        ...
