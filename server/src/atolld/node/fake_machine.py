"""A `Machine` without a machine: surroundings are entries in a dictionary. For tests and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId
from atolld.node.machine import Consumption, Prepared
from atolld.runtime.driver import Overhead

NOTHING_USED = Consumption(0, 0, 0, 0, 0, 0)


class FakeMachine:
    """`prepared` holds what exists; it may be filled beforehand to play a restart, and `fail_prepare` made to raise."""

    def __init__(self) -> None:
        self.prepared: dict[SandboxId, Prepared] = {}
        self.policies: dict[SandboxId, NetworkPolicy] = {}
        self.consumed: dict[SandboxId, Consumption] = {}
        self.fail_prepare: Exception | None = None
        self.memory_free_mib = 100_000
        self.disk_free_mib = 100_000
        self.opened = self.swept = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def prepare(
        self,
        id: SandboxId,
        layers: tuple[Path, ...],
        resources: Resources,
        overhead: Overhead,
        network: NetworkPolicy,
    ) -> Prepared:
        if self.fail_prepare is not None:
            raise self.fail_prepare
        self.prepared[id] = self._surroundings(id, len(self.prepared))
        self.policies[id] = network
        return self.prepared[id]

    async def adopt(self, id: SandboxId, record: Mapping[str, object], network: NetworkPolicy) -> Prepared:
        if id not in self.prepared:
            raise FailedPrecondition(f"the surroundings of {id} are gone")
        self.policies[id] = network
        return self.prepared[id]

    async def release(self, prepared: Prepared) -> None:
        self.prepared.pop(prepared.id, None)

    async def sweep(self, keep: frozenset[SandboxId]) -> None:
        self.swept += 1
        for id in set(self.prepared) - keep:
            del self.prepared[id]

    async def consumption(self, prepared: Prepared) -> Consumption:
        if prepared.id not in self.prepared:
            raise NotFound(f"the surroundings of {prepared.id} are gone")
        return self.consumed.get(prepared.id, NOTHING_USED)

    async def set_network(self, prepared: Prepared, policy: NetworkPolicy) -> None:
        self.policies[prepared.id] = policy

    def driver_directory(self, id: SandboxId) -> Path:
        return Path("/nonexistent") / id

    def free(self) -> tuple[int, int]:
        return self.memory_free_mib, self.disk_free_mib

    def gauges(self) -> Mapping[str, float]:
        return {"fake_machine_prepared": float(len(self.prepared))}

    async def close(self) -> None:
        self.closed += 1

    def _surroundings(self, id: SandboxId, number: int) -> Prepared:
        return Prepared(
            id=id,
            rootfs=Path("/nonexistent/rootfs"),
            netns=Path("/nonexistent/netns"),
            address=f"127.0.0.{number + 1}",
            log=Path("/nonexistent/log"),
            directory=self.driver_directory(id),
            cgroup=f"/fake/{id}",
            record={"number": number},
        )
