"""What the node needs of the machine around a sandbox: root file system, network, cgroup, log.

`atolld.node.linux` is the real one. Keeping it behind a protocol lets the node's own logic (what is built up, taken
down, recovered, and in which order) be tested without root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.ids import SandboxId
from atolld.runtime.driver import Overhead


@dataclass(frozen=True, slots=True)
class Prepared:
    """Surroundings of one sandbox, ready for a driver.

    `record` (JSON values) is all that `adopt` needs to find them again after a restart. `directory` is for the driver.
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
    ) -> Prepared:
        """Build surroundings, bounded by `resources` plus the runtime's `overhead`.

        On failure or cancellation nothing of them is left.

        Raises Capacity when the machine has no disk or address left.
        """
        ...

    async def adopt(self, id: SandboxId, record: Mapping[str, object], network: NetworkPolicy) -> Prepared:
        """Take over surroundings made by an earlier daemon, with the egress policy put in force again.

        Raises FailedPrecondition when they are not whole any more.
        """
        ...

    async def release(self, prepared: Prepared) -> None:
        """Remove the surroundings; processes in them must be gone or are killed."""
        ...

    async def sweep(self, keep: frozenset[SandboxId]) -> None:
        """Remove everything of this instance that belongs to no sandbox in `keep`, then begin to fill the pools."""
        ...

    async def consumption(self, prepared: Prepared) -> Consumption:
        """Use so far. Raises NotFound when the surroundings are gone."""
        ...

    async def set_network(self, prepared: Prepared, policy: NetworkPolicy) -> None:
        """Change the egress policy at once."""
        ...

    def driver_directory(self, id: SandboxId) -> Path:
        """Where a driver's files of sandbox `id` lie, whether or not they exist."""
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
