"""A node without a machine: for tests, and for trying out the daemon where nothing can be isolated.

It keeps the promises of `Node` in memory and follows a script: calls can be made to fail or to wait at a gate, and
sandboxes can be made to die.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AlreadyExists, Capacity, FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.node.fake_state import FakeMachine as FakeMachine
from atolld.node.fake_state import FakeSandbox as FakeSandbox
from atolld.node.fake_state import FakeSave as FakeSave
from atolld.node.fake_state import collect
from atolld.node.interface import (
    Admit,
    After,
    Claim,
    Death,
    DeathListener,
    Known,
    Launch,
    Launched,
    NodeCapacity,
    Usage,
)
from atolld.node.saves_in_use import SavesInUse
from atolld.runtime.driver import Fingerprint, Power

HANDLE_VERSION = 1


@dataclass(slots=True)
class Gate:
    """Holds calls: `reached` is set when one arrives, and it goes on once `opened` is set; `arrivals` have come."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: int = 0

    async def pass_through(self) -> None:
        """Wait until the gate is open."""
        self.arrivals += 1
        self.reached.set()
        await self.opened.wait()


class FakeNode:
    """Implements `Node`.

    Script: `gates[verb]` holds the next calls of a verb (`launch` before anything is made, `launched` when it is made,
    `save` before it stands still, `saving` when the save is half written, `saved` when it is whole, `terminate`,
    `usage`, ...); `failures[verb]` are raised by the next calls, in order; `max_sandboxes` is the room; `missing` maps
    powers that the runtime lacks to their sentence. `calls` lists what was called and `launches` what was asked for, in
    order.
    """

    def __init__(
        self, clock: Clock, machine: FakeMachine | None = None, *, max_sandboxes: int = 1000, runtime: str = "fake"
    ) -> None:
        self.machine = machine or FakeMachine()
        self.max_sandboxes = max_sandboxes
        self.gates: dict[str, Gate] = {}
        self.failures: dict[str, list[Exception]] = defaultdict(list)
        self.calls: list[tuple[str, SandboxId]] = []
        self.launches: list[Launch] = []
        self.missing: dict[Power, str] = {}
        self._clock = clock
        self._runtime = runtime
        self._in_use = SavesInUse()
        self._saving: defaultdict[SandboxId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._launching = 0
        self._on_death: DeathListener | None = None

    def hold(self, verb: str) -> Gate:
        """Make the calls of `verb` wait at a gate from now on; returns it."""
        gate = self.gates[verb] = Gate()
        return gate

    def fail(self, verb: str, *errors: Exception) -> None:
        """Make the next calls of `verb` raise these, one each."""
        self.failures[verb].extend(errors)

    async def die(self, id: SandboxId, reason: EndReason = EndReason.CRASHED, message: str = "it died") -> None:
        """Let a sandbox end by itself and tell the listener, as when the daemon sees it happen."""
        del self.machine.sandboxes[id]
        if self._on_death is not None:
            await self._on_death(Death(id, reason, message))

    def die_unseen(self, id: SandboxId, reason: EndReason = EndReason.CRASHED, message: str = "it died") -> None:
        """Let a sandbox end by itself while no daemon looks; `recover` tells of it."""
        self.machine.sandboxes[id].died = Death(id, reason, message)

    async def start(self, on_death: DeathListener) -> None:
        """See `Node.start`."""
        self._on_death = on_death

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        return {
            self._runtime: Fingerprint(
                driver=self._runtime,
                usable=True,
                reason="",
                version="1",
                isolation="nothing runs, so nothing is isolated",
                missing=dict(self.missing),
            )
        }

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`."""
        self.calls.append(("launch", what.id))
        self.launches.append(what)
        if what.runtime != self._runtime:
            raise NotFound(f"there is no runtime {what.runtime!r}; this machine has: {self._runtime}")
        if len(self.machine.sandboxes) + self._launching >= self.max_sandboxes:
            raise Capacity(f"the machine already holds {self.max_sandboxes} sandboxes, its maximum")
        if what.id in self.machine.sandboxes:
            raise AlreadyExists(f"sandbox {what.id} exists")
        self._launching += 1
        with ExitStack() as until_up:
            until_up.callback(self._launched)
            if what.source is not None:
                until_up.enter_context(self._in_use.using(what.source.save_id))
                if what.source.kind is SaveKind.MEMORY:
                    self._need(Power.RESTORE)
            await self._step("launch")
            here = self.machine.sandboxes[what.id] = self.machine.launch(what)
            try:
                await self._step("launched")
            except BaseException:
                self.machine.sandboxes.pop(what.id, None)
                raise
        handle = {"version": HANDLE_VERSION, "id": what.id, "run": here.run, "address": here.address}
        return Launched(here.address, handle, {"prepare": 0.0, "start": 0.0})

    async def terminate(self, id: SandboxId, grace_s: float = 0.0, *, keep_address: bool = False) -> None:
        """See `Node.terminate`."""
        self.calls.append(("terminate", id))
        await self._step("terminate")
        self.machine.sandboxes.pop(id, None)

    async def seal(
        self, id: SandboxId, digest: str, manifest: Mapping[str, object], *, forbidden: Sequence[str] = ()
    ) -> bool:
        """See `Node.seal`: the sandbox's `files` are what it changed."""
        self.calls.append(("seal", id))
        here = self._here(id)
        try:
            await self._step("seal")
            if self.machine.sandboxes.get(id) is not here:
                raise FailedPrecondition(f"sandbox {id} was ended before its changes were kept")
            return self.machine.seal(here, digest, manifest, forbidden)
        finally:
            if self.machine.sandboxes.get(id) is here:
                del self.machine.sandboxes[id]

    async def recover(
        self, known: list[Known], paused: Mapping[SandboxId, Mapping[str, object]] | None = None
    ) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        await self._step("recover")
        outcome: dict[SandboxId, Death | None] = {}
        for one in known:
            here = self.machine.sandboxes.get(one.id)
            outcome[one.id] = here.died if here else Death(one.id, EndReason.CRASHED, "nothing of it was found")
        for id, here in list(self.machine.sandboxes.items()):
            if id not in outcome or here.died is not None:
                del self.machine.sandboxes[id]
        for one in known:
            if one.id in self.machine.sandboxes:
                here = self.machine.sandboxes[one.id]
                here.frozen = one.frozen
                here.standing = here.standing and not one.standing
        return outcome

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """See `Node.save`."""
        self.calls.append(("save", id))
        async with self._saving[id]:
            here = self._here(id)
            if kind is SaveKind.MEMORY:
                self._need(Power.CHECKPOINT)
            with self._in_use.using(save_id):
                try:
                    await self._step("save")
                    here.standing, here.frozen = True, False
                    save = self.machine.begin_save(save_id, kind, here)
                    await self._step("saving")
                    if self._here(id) is not here:
                        raise NotFound(f"sandbox {id} ended while it was saved")
                    save.whole = True
                    here.standing = after is After.STAND
                    await self._step("saved")
                except BaseException:
                    here.standing = False
                    self.machine.saves.pop(save_id, None)
                    raise
            return save.saved

    async def go_on(self, id: SandboxId) -> None:
        """See `Node.go_on`."""
        self.calls.append(("go_on", id))
        await self._step("go_on")
        self._here(id).standing = False

    async def freeze(self, id: SandboxId) -> None:
        """See `Node.freeze`."""
        self.calls.append(("freeze", id))
        self._need(Power.FREEZE)
        await self._step("freeze")
        self._here(id).frozen = True

    async def thaw(self, id: SandboxId) -> None:
        """See `Node.thaw`."""
        self.calls.append(("thaw", id))
        await self._step("thaw")
        self._here(id).frozen = False

    async def stand_by(self, id: SandboxId) -> None:
        """See `Node.stand_by`."""
        self.calls.append(("stand_by", id))
        await self._step("stand_by")
        self._here(id).frozen = Power.FREEZE not in self.missing

    async def claim(self, id: SandboxId, what: Claim) -> None:
        """See `Node.claim`; every CPU is a change that is possible, other resources are not."""
        self.calls.append(("claim", id))
        await self._step("claim")
        here = self._here(id)
        if what.resources.memory_mib != here.memory_mib:
            raise FailedPrecondition("the memory of a running sandbox cannot be changed")
        here.frozen = False
        here.network, here.cpu = what.network, what.resources.cpu
        here.envs.update(what.envs)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """See `Node.saved`."""
        save = self.machine.saves.get(save_id)
        return save.saved if save is not None and save.whole else None

    async def discard_save(self, save_id: SnapshotId) -> None:
        """See `Node.discard_save`."""
        with self._in_use.doom(save_id):
            await self._step("discard_save")
            await self._in_use.until_unused(save_id)
            self.machine.saves.pop(save_id, None)

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """See `Node.sweep_saves`."""
        await self._step("sweep_saves")
        gone = [id for id in self.machine.saves if id not in keep and id not in self._in_use.ids]
        for id in gone:
            del self.machine.saves[id]
        return gone

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Node.diff_saves`."""
        await self._step("diff_saves")
        return self.machine.diff(older, newer, limit)

    async def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncIterator[bytes]:
        """See `Node.export_save`."""
        with self._in_use.using(save_id):
            await self._step("export_save")
            archive = self.machine.whole_save(save_id).to_archive(facts)
            for at in range(0, len(archive), 64):
                yield archive[at : at + 64]

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Node.import_save`."""
        with self._in_use.using(save_id):
            archive = await collect(stream)
            await self._step("import_save")
            save, facts = FakeSave.from_archive(save_id, archive)
            await admit(facts, save.saved)
            self.machine.saves[save_id] = save
            return save.saved

    async def usage(self, id: SandboxId) -> Usage:
        """See `Node.usage`."""
        self.calls.append(("usage", id))
        await self._step("usage")
        here = self._here(id)
        return Usage(
            at=self._clock.now(),
            cpu_count=here.cpu,
            cpu_used_pct=0.0,
            memory_used_bytes=0,
            memory_total_bytes=here.memory_mib * 1024 * 1024,
            memory_cache_bytes=0,
            disk_used_bytes=0,
            disk_total_bytes=0,
        )

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        self.calls.append(("set_network", id))
        await self._step("set_network")
        self._here(id).network = policy

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """See `Node.logs`."""
        return self._here(id).log[-limit_bytes:]

    def capacity(self) -> NodeCapacity:
        """See `Node.capacity`."""
        all_ = self.machine.sandboxes.values()
        return NodeCapacity(
            cpu_total=1000.0,
            cpu_taken=sum(one.cpu for one in all_),
            memory_total_mib=1_000_000,
            memory_taken_mib=sum(one.memory_mib for one in all_),
            disk_free_mib=1_000_000,
            sandboxes=len(all_),
            max_sandboxes=self.max_sandboxes,
        )

    def gauges(self) -> Mapping[str, float]:
        """See `Node.gauges`."""
        return {"node_sandboxes_running": float(len(self.machine.sandboxes))}

    async def close(self) -> None:
        """See `Node.close`."""
        self._on_death = None

    def _here(self, id: SandboxId) -> FakeSandbox:
        try:
            return self.machine.sandboxes[id]
        except KeyError:
            raise NotFound(f"sandbox {id} does not run on this node") from None

    def _launched(self) -> None:
        self._launching -= 1

    def _need(self, power: Power) -> None:
        if power in self.missing:
            raise FailedPrecondition(self.missing[power])

    async def _step(self, verb: str) -> None:
        gate = self.gates.get(verb)
        if gate is not None:
            await gate.pass_through()
        if self.failures[verb]:
            raise self.failures[verb].pop(0)
