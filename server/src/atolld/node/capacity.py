"""Whether one more sandbox fits: counted before anything is made.

A sandbox's memory is a limit, not a reservation: most use a fraction of it. So the sum of the limits may pass the
machine's memory by `memory_overcommit`, and besides the machine must really have memory and disk to spare right now.
"""

from __future__ import annotations

from dataclasses import dataclass

from atolld.core.sandbox import Resources
from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.foundation.ids import SandboxId
from atolld.node.interface import NodeCapacity


@dataclass(frozen=True, slots=True)
class CapacityLimits:
    """Bounds of one node. CPU in cores, memory and disk in MiB; the overcommits are factors of the machine's totals."""

    cpu_total: float
    memory_total_mib: int
    max_sandboxes: int = 1000
    cpu_overcommit: float = 64.0
    memory_overcommit: float = 4.0
    memory_reserve_mib: int = 512
    disk_reserve_mib: int = 2048


class CapacityBook:
    """Who has taken how much; a claim is made before a launch and given up when the sandbox is gone.

    `spare_mib`: memory of what is kept ready and belongs to no sandbox yet.
    """

    def __init__(self, limits: CapacityLimits) -> None:
        self._limits = limits
        self._claims: dict[SandboxId, Resources] = {}
        self.spare_mib = 0

    def has_spare(self, more_mib: int, memory_free_mib: int) -> bool:
        """Whether `more_mib` can be added to `spare_mib` and a sandbox still fits."""
        limits = self._limits
        bound = int(limits.memory_total_mib * limits.memory_overcommit)
        return (
            len(self._claims) < limits.max_sandboxes
            and self.memory_taken_mib + more_mib + Resources().memory_mib <= bound
            and memory_free_mib - more_mib >= limits.memory_reserve_mib
        )

    def move(self, old: SandboxId, new: SandboxId) -> None:
        """What was claimed for `old` is of `new` from now on."""
        if (claim := self._claims.pop(old, None)) is not None:
            self._claims[new] = claim

    def claim(self, id: SandboxId, resources: Resources, memory_free_mib: int, disk_free_mib: int) -> None:
        """Reserve room for `id`.

        Raises Capacity, naming what is short and by how much, and InvalidArgument for what no machine of this size can
        ever hold; then nothing is reserved.
        """
        limits = self._limits
        # First: who is told that there is no room now tries again.
        if reason := self.snapshot(disk_free_mib).too_large(resources):
            raise InvalidArgument(reason, cpu_total=limits.cpu_total, memory_total_mib=limits.memory_total_mib)
        if len(self._claims) >= limits.max_sandboxes:
            raise Capacity(
                f"the machine already holds {len(self._claims)} sandboxes, its maximum (max_sandboxes); "
                "end some or raise the setting",
                max_sandboxes=limits.max_sandboxes,
            )
        cpu_bound = limits.cpu_total * limits.cpu_overcommit
        if self.cpu_taken + resources.cpu > cpu_bound:
            raise Capacity(
                f"{self.cpu_taken:g} of {cpu_bound:g} CPUs are given out; {resources.cpu:g} more do not fit",
                cpu_taken=self.cpu_taken,
            )
        memory_bound = int(limits.memory_total_mib * limits.memory_overcommit)
        if self.memory_taken_mib + resources.memory_mib > memory_bound:
            raise Capacity(
                f"{self.memory_taken_mib} of {memory_bound} MiB of memory are given out; "
                f"{resources.memory_mib} more do not fit",
                memory_taken_mib=self.memory_taken_mib,
            )
        if memory_free_mib < limits.memory_reserve_mib:
            raise Capacity(
                f"only {memory_free_mib} MiB of memory are free; {limits.memory_reserve_mib} are kept in reserve",
                memory_free_mib=memory_free_mib,
            )
        if disk_free_mib < limits.disk_reserve_mib:
            raise Capacity(
                f"only {disk_free_mib} MiB of disk are free; {limits.disk_reserve_mib} are kept in reserve",
                disk_free_mib=disk_free_mib,
            )
        self._claims[id] = resources

    def adopt(self, id: SandboxId, resources: Resources) -> None:
        """Count a sandbox that already runs, whatever the limits say."""
        self._claims[id] = resources

    def give_up(self, id: SandboxId) -> None:
        """Forget the claim of `id`, if there is one."""
        self._claims.pop(id, None)

    @property
    def cpu_taken(self) -> float:
        """Cores given out."""
        return sum(claim.cpu for claim in self._claims.values())

    @property
    def memory_taken_mib(self) -> int:
        """MiB of memory given out, and what is kept ready."""
        return self.spare_mib + sum(claim.memory_mib for claim in self._claims.values())

    def snapshot(self, disk_free_mib: int) -> NodeCapacity:
        """Totals and what is taken of them."""
        return NodeCapacity(
            cpu_total=self._limits.cpu_total,
            cpu_taken=self.cpu_taken,
            memory_total_mib=self._limits.memory_total_mib,
            memory_taken_mib=self.memory_taken_mib,
            disk_free_mib=disk_free_mib,
            sandboxes=len(self._claims),
            max_sandboxes=self._limits.max_sandboxes,
        )
