"""What the node needs of the machine around a sandbox: root file system, network, cgroup, log, and what is saved of it.

`atolld.node.linux` is the real one. Keeping it behind a protocol lets the node's own logic (what is built up, taken
down, recovered, and in which order) be tested without root.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.interface import Admit
from atolld.runtime.driver import Overhead


@dataclass(frozen=True, slots=True)
class Prepared:
    """Surroundings of one execution (one run of a sandbox from its start or resume on), ready for a driver.

    `id` is the execution's: every resource on the host bears it. `record` (JSON values) is all that `adopt` needs to
    find them again after a restart, and `prepare` to give a later run the same address; `record["execution"]` is the
    id. `directory` is for the driver.
    """

    id: SandboxId
    rootfs: Path
    netns: Path
    address: str
    log: Path
    directory: Path
    cgroup: str
    record: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Consumption:
    """Use of one sandbox so far: CPU in microseconds, memory and disk in bytes.

    `memory_cache_bytes` is the part of the memory that the kernel can take back. `out_of_memory_kills`: how often the
    kernel killed for the memory limit.
    """

    cpu_usec: int
    memory_bytes: int
    memory_cache_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int
    out_of_memory_kills: int


class Machine(Protocol):
    """Makes and removes surroundings; every removal is idempotent."""

    async def open(self) -> None:
        """Load rules and whatever does not depend on what still runs; pools start to fill after `sweep`."""
        ...

    async def prepare(
        self,
        id: SandboxId,
        layers: tuple[Path, ...],
        resources: Resources,
        overhead: Overhead,
        network: NetworkPolicy,
        *,
        source: SnapshotId | None = None,
        formerly: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Build surroundings, bounded by `resources` plus the runtime's `overhead`; `id` is the execution's.

        `source`: the disk is a clone of that save's, and as large; `layers` are the save's (`save_layers`).
        `formerly`: the record of an earlier run; its slot, and so its address, is used again when that is free.
        On failure or cancellation nothing of them is left.

        Raises Capacity when the machine has no disk or address left, NotFound when there is no save `source`.
        """
        ...

    async def prepare_shell(self, id: SandboxId, resources: Resources, overhead: Overhead) -> Prepared:
        """What of the surroundings can be built before it is known what will run in them: no disk and no policy yet.

        Its log is its own, small and in memory. Otherwise as `prepare`; `release` removes it too.
        """
        ...

    async def furnish(
        self,
        shell: Prepared,
        layers: tuple[Path, ...],
        resources: Resources,
        overhead: Overhead,
        network: NetworkPolicy,
        *,
        source: SnapshotId | None = None,
        formerly: Mapping[str, object] | None = None,
    ) -> None:
        """Build what `shell` lacks, so that it is as `prepare` with the same arguments would have made it.

        `formerly` is no longer parked, and its address not used. When it raises, `shell` is to be released. Raises as
        `prepare`.
        """
        ...

    async def adopt(self, id: SandboxId, record: Mapping[str, object], network: NetworkPolicy) -> Prepared:
        """Take over surroundings made by an earlier daemon, with the egress policy put in force again.

        `record["execution"]` names them; a record of before there were executions has none, and they bear `id`.
        Raises FailedPrecondition when they are not whole any more.
        """
        ...

    def park(self, record: Mapping[str, object]) -> None:
        """Give the slot that `record` names to others only when no other is left: a paused sandbox wants it back.

        Forgotten when the daemon ends. A record that names no slot is left alone.
        """
        ...

    def unpark(self, record: Mapping[str, object]) -> None:
        """Undo `park`: the paused sandbox is gone. `prepare(formerly=record)` does it too."""
        ...

    async def seal(
        self,
        prepared: Prepared,
        layers: tuple[Path, ...],
        digest: str,
        manifest: Mapping[str, object],
        forbidden: Sequence[str] = (),
    ) -> bool:
        """Keep what was changed in the root file system as the layer `digest`; its processes have ended.

        `layers`: those below its disk, lowest first. See `Node.seal`.
        """
        ...

    async def release(self, prepared: Prepared) -> None:
        """Remove the surroundings; processes in them must be gone or are killed."""
        ...

    async def sweep(self, keep: frozenset[SandboxId]) -> None:
        """Remove everything of this instance that belongs to no execution in `keep`, then begin to fill the pools.

        Saves stay: see `sweep_saves`.
        """
        ...

    async def consumption(self, prepared: Prepared) -> Consumption:
        """Use so far. Raises NotFound when the surroundings are gone."""
        ...

    async def set_network(self, prepared: Prepared, policy: NetworkPolicy) -> None:
        """Change the egress policy at once."""
        ...

    async def cut_off(self, prepared: Prepared) -> None:
        """Let no packet reach it, and end the connections that it is just making: for the time of a save of its memory.

        Its programs must stand still. Raises NotFound when the surroundings are gone.
        """
        ...

    async def reconnect(self, prepared: Prepared) -> None:
        """Undo `cut_off`; not cut off, or gone, is success. What finds a cut off one at `adopt` does it too."""
        ...

    async def set_resources(self, prepared: Prepared, resources: Resources, overhead: Overhead) -> None:
        """Change the bounds of CPU, memory and processes while it runs; the disk stays as it is.

        Raises NotFound when the surroundings are gone, FailedPrecondition when more memory is in use than would be
        allowed.
        """
        ...

    async def settle(self, prepared: Prepared) -> None:
        """Write out what the guest has written to its disk, while it runs, so that `save_disk` has less to do."""
        ...

    async def begin_save(self, save_id: SnapshotId) -> Path:
        """Begin the save `save_id`; returns the empty directory for the driver's memory files.

        Raises Capacity when less than the reserve is free, AlreadyExists when the save exists or is being written.
        """
        ...

    async def save_disk(self, prepared: Prepared, save_id: SnapshotId) -> None:
        """Put a clone of the disk into the save begun. The guest is suspended or gone; writers wait meanwhile.

        Raises Capacity when the disk is full, NotFound when the save was not begun or the disk is gone.
        """
        ...

    async def finish_save(
        self,
        save_id: SnapshotId,
        kind: SaveKind,
        engine: str,
        stopped_s: float,
        layers: tuple[Path, ...],
        *,
        needs_address: bool = True,
        envs: Mapping[str, str] | None = None,
    ) -> Saved:
        """Checksums, manifest, everything to the disk, then its name: the save is whole when this returns.

        `engine`: what alone can read the memory. `layers`: those below its disk, lowest first. The guest may run.
        `needs_address`, `envs`: what the methods of those names are to answer. Raises Capacity when the disk is
        full, NotFound when the save was not begun; the save can be abandoned then.
        """
        ...

    async def abandon_save(self, save_id: SnapshotId) -> None:
        """Remove a save that was begun and not finished. Idempotent; a finished one is left alone."""
        ...

    async def check_save(self, save_id: SnapshotId, kind: SaveKind, engine: str | None) -> Path:
        """Verify the save as one to start from, all but the contents of its memory; returns the directory of those
        files.

        `kind` FILESYSTEM: only its disk will be used. `engine`: what will read the memory; None: not compared.
        Raises NotFound; FailedPrecondition when it is damaged (naming the file), was written by another engine, needs
        CPU features this machine lacks, holds no memory, or a layer below its disk is gone.
        """
        ...

    async def check_memory(self, save_id: SnapshotId) -> None:
        """Read the save's memory files and compare them with their checksums; 30 ms for each 100 MB.

        Raises NotFound, FailedPrecondition naming the file.
        """
        ...

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """The save if it is whole on disk, else None; its contents are not verified."""
        ...

    async def discard_save(self, save_id: SnapshotId) -> None:
        """Delete a save; gone is success."""
        ...

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """Delete every save that is not in `keep` or is not whole, those being written now excepted; returns them."""
        ...

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Node.diff_saves`."""
        ...

    def save_layers(self, save_id: SnapshotId) -> tuple[Path, ...]:
        """Roots of the read-only layers below the save's disk on this machine, lowest first. Raises NotFound."""
        ...

    def needs_address(self, save_id: SnapshotId) -> bool:
        """Whether the memory in the save may not go on at another address than it had. Raises NotFound."""
        ...

    def envs(self, save_id: SnapshotId) -> Mapping[str, str]:
        """Variables of the processes in what was saved, for the same sandbox when it starts again from its files.

        They never leave this machine. Empty when the save has none; raises NotFound, FailedPrecondition when damaged.
        """
        ...

    def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        """See `Node.export_save`."""
        ...

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Node.import_save`; the engine is for `admit` to judge."""
        ...

    def driver_directory(self, id: SandboxId) -> Path:
        """Where a driver's files of execution `id` lie, whether or not they exist."""
        ...

    def free(self) -> tuple[int, int]:
        """Memory available to new sandboxes and disk free for them, in MiB, as the machine says now."""
        ...

    def gauges(self) -> Mapping[str, float]:
        """Pool sizes by metric name."""
        ...

    async def close(self) -> None:
        """Give back the pools; surroundings in use stay."""
        ...
