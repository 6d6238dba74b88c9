"""A `Machine` without a machine: surroundings are entries in a dictionary. For tests and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.fake_saves import FakeSaves
from atolld.node.machine import Consumption, Prepared
from atolld.runtime.driver import Overhead

NOTHING_USED = Consumption(0, 0, 0, 0, 0, 0)


class FakeMachine(FakeSaves):
    """`prepared` holds what exists; it may be filled beforehand to play a restart, and `fail_prepare` made to raise.

    `sources` tells which save a disk came from, `resources` the bounds in force, `parked` the slots that paused
    sandboxes want back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prepared: dict[SandboxId, Prepared] = {}
        self.policies: dict[SandboxId, NetworkPolicy] = {}
        self.resources: dict[SandboxId, Resources] = {}
        self.sources: dict[SandboxId, SnapshotId] = {}
        self.parked: set[int] = set()
        self.cut_off_now: set[SandboxId] = set()
        # Layers that were sealed: which execution, and the manifest. `unchanged`: those that changed nothing.
        self.sealed: dict[str, tuple[SandboxId, Mapping[str, object]]] = {}
        self.unchanged: set[SandboxId] = set()
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
        *,
        source: SnapshotId | None = None,
        formerly: Mapping[str, object] | None = None,
    ) -> Prepared:
        if self.fail_prepare is not None:
            raise self.fail_prepare
        if source is not None:
            self._whole(source)
            self.sources[id] = source
        self.prepared[id] = self._surroundings(id, self._free_slot(formerly or {}))
        self.policies[id] = network
        self.resources[id] = resources
        return self.prepared[id]

    async def prepare_shell(self, id: SandboxId, resources: Resources, overhead: Overhead) -> Prepared:
        self._call("prepare_shell", id)
        self.prepared[id] = self._surroundings(id, self._free_slot({}))
        self.resources[id] = resources
        return self.prepared[id]

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
        self._call("furnish", shell.id)
        if source is not None:
            self._whole(source)
            self.sources[shell.id] = source
        self.policies[shell.id] = network
        self.resources[shell.id] = resources
        self.unpark(formerly or {})

    async def adopt(self, id: SandboxId, record: Mapping[str, object], network: NetworkPolicy) -> Prepared:
        execution = SandboxId(str(record.get("execution", id)))
        if execution not in self.prepared:
            raise FailedPrecondition(f"the surroundings of {id} are gone")
        self.policies[execution] = network
        return self.prepared[execution]

    def park(self, record: Mapping[str, object]) -> None:
        slot = record.get("slot")
        if isinstance(slot, int):
            self.parked.add(slot)

    def unpark(self, record: Mapping[str, object]) -> None:
        slot = record.get("slot")
        if isinstance(slot, int):
            self.parked.discard(slot)

    async def seal(
        self,
        prepared: Prepared,
        layers: tuple[Path, ...],
        digest: str,
        manifest: Mapping[str, object],
        forbidden: Sequence[str] = (),
    ) -> bool:
        self._call("seal", prepared.id)
        if prepared.id not in self.unchanged:
            self.sealed.setdefault(digest, (prepared.id, manifest))
        return prepared.id not in self.unchanged

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

    async def cut_off(self, prepared: Prepared) -> None:
        self._call("cut_off", prepared.id)
        if prepared.id not in self.prepared:
            raise NotFound(f"the surroundings of {prepared.id} are gone")
        self.cut_off_now.add(prepared.id)

    async def reconnect(self, prepared: Prepared) -> None:
        self._call("reconnect", prepared.id)
        self.cut_off_now.discard(prepared.id)

    async def set_resources(self, prepared: Prepared, resources: Resources, overhead: Overhead) -> None:
        self._call("set_resources", prepared.id)
        if prepared.id not in self.prepared:
            raise NotFound(f"the surroundings of {prepared.id} are gone")
        self.resources[prepared.id] = resources

    def driver_directory(self, id: SandboxId) -> Path:
        return Path("/nonexistent") / id

    def free(self) -> tuple[int, int]:
        return self.memory_free_mib, self.disk_free_mib

    def gauges(self) -> Mapping[str, float]:
        return {"fake_machine_prepared": float(len(self.prepared))}

    async def close(self) -> None:
        self.closed += 1

    def _free_slot(self, formerly: Mapping[str, object]) -> int:
        used = {one.record["slot"] for one in self.prepared.values()}
        wanted = formerly.get("slot")
        self.unpark(formerly)
        if isinstance(wanted, int) and wanted not in used:
            return wanted
        free = (number for number in range(250) if number not in used)
        return min(free, key=lambda number: (number in self.parked, number))

    def _surroundings(self, id: SandboxId, slot: int) -> Prepared:
        return Prepared(
            id=id,
            rootfs=Path("/nonexistent/rootfs"),
            netns=Path("/nonexistent/netns"),
            address=f"127.0.0.{slot + 1}",
            log=Path("/nonexistent/log"),
            directory=self.driver_directory(id),
            cgroup=f"/fake/{id}",
            record={"slot": slot, "execution": id},
        )
