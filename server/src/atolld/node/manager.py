"""The node in this process: brings sandboxes up, watches them, saves them, takes them down, finds them again.

Room is claimed before a launch and given up when the sandbox is gone. Order of an end: the driver destroys, then the
surroundings go, then the claim. Each step can be the last thing a killed daemon did; `recover` makes whole or removes
whatever it finds.

Everything on the host bears the id of one execution, not the sandbox's: see `Instance`. So a sandbox can be brought up
again from a save while its last run, ended already, is still going away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path

from atolld.core.network import NetworkPolicy
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AlreadyExists, Capacity, FailedPrecondition, NotFound, RuntimeUnusable
from atolld.foundation.ids import SandboxId, SnapshotId, new_sandbox_id
from atolld.node.capacity import CapacityBook
from atolld.node.changing import Changer
from atolld.node.instance import Instance, engine_of, machine_record, result_of
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
from atolld.node.launching import GuestFactory, Launcher, Way, guest_at
from atolld.node.logs import read_tail
from atolld.node.machine import Machine
from atolld.node.prepared_pool import PreparedPool
from atolld.node.recovering import Recoverer, death_of
from atolld.node.retries import Retries
from atolld.node.sampler import Sampler
from atolld.node.saves_in_use import SavesInUse
from atolld.node.saving import Saver
from atolld.node.sealing import seal
from atolld.runtime.driver import Fingerprint, RuntimeDriver

log = logging.getLogger("atolld.node")


class NodeManager:
    """Implements `atolld.node.interface.Node` with drivers and a `Machine`.

    `parallel_launches`: see `Launcher`. `ready_containers`: how many wait for guests that go on from a saved memory.
    """

    def __init__(
        self,
        *,
        drivers: Mapping[str, RuntimeDriver],
        machine: Machine,
        capacity: CapacityBook,
        clock: Clock,
        agent: Path,
        parallel_launches: int,
        ready_containers: int = 0,
        guest: GuestFactory = guest_at,
    ) -> None:
        self._drivers = drivers
        self._machine = machine
        self._capacity = capacity
        self._retries = Retries(clock)
        self._pool = PreparedPool(
            drivers=drivers,
            machine=machine,
            capacity=capacity,
            clock=clock,
            retries=self._retries,
            agent=agent,
            target=ready_containers,
            busy=lambda: bool(self._launching),
        )
        self._launcher = Launcher(machine, clock, self._retries, agent, guest, self._pool, parallel_launches)
        self._saver = Saver(machine, clock, self._retries, guest)
        self._changer = Changer(machine, clock, guest)
        self._recoverer = Recoverer(drivers, machine, self._retries)
        self._in_use = SavesInUse()
        self._sampler = Sampler(clock)
        self._running: dict[SandboxId, Instance] = {}
        # By execution: earlier runs of sandboxes, ended but not gone yet.
        self._leaving: dict[SandboxId, Instance] = {}
        self._launching: dict[SandboxId, asyncio.Task[Launched]] = {}
        self._parked: dict[SandboxId, Mapping[str, object]] = {}
        self._on_death: DeathListener | None = None

    async def start(self, on_death: DeathListener) -> None:
        """See `Node.start`; `recover` must follow, it is what lets the pools fill."""
        self._on_death = on_death
        await self._machine.open()

    async def fingerprints(self) -> dict[str, Fingerprint]:
        """See `Node.fingerprints`."""
        found = await asyncio.gather(*(driver.fingerprint() for driver in self._drivers.values()))
        return dict(zip(self._drivers, found, strict=True))

    async def launch(self, what: Launch) -> Launched:
        """See `Node.launch`. A cancelled caller leaves nothing behind."""
        driver = self._driver(what.runtime)
        fingerprint = await driver.fingerprint()
        if not fingerprint.usable:
            raise RuntimeUnusable(f"runtime {what.runtime!r} cannot be used on this machine: {fingerprint.reason}")
        execution = what.id if what.source is None else new_sandbox_id()
        way = Way(what, execution, driver, fingerprint)
        way.check()
        await self._claim(execution, what)
        task = self._launching[what.id] = spawn(self._bring_up(way), name=f"launch-{what.id}", report=False)
        try:
            ended = f"sandbox {what.id} was ended while it was starting"
            return await result_of(task, ended, lambda: self.terminate(what.id))
        finally:
            del self._launching[what.id]
            here = self._running.get(what.id)
            if here is None or here.execution != execution:
                self._capacity.give_up(execution)
            self._pool.wake()

    async def terminate(self, id: SandboxId, grace_s: float = 0.0, *, keep_address: bool = False) -> None:
        """See `Node.terminate`."""
        launching = self._launching.get(id)
        if launching is not None:
            await cancel_and_wait(launching)
        instance = self._running.get(id)
        if instance is None:
            record = self._parked.pop(id, None)
            if record is not None and not keep_address:
                self._machine.unpark(record)
        elif keep_address or instance.standing:
            self._parked[id] = instance.prepared.record
            self._machine.park(instance.prepared.record)
        leaving = [one for one in self._leaving.values() if one.id == id]
        await asyncio.gather(*(self._end(one, grace_s) for one in (*leaving, instance) if one is not None))

    async def seal(
        self, id: SandboxId, digest: str, manifest: Mapping[str, object], *, forbidden: Sequence[str] = ()
    ) -> bool:
        """See `Node.seal`. A caller that goes away leaves neither sandbox nor half a layer."""
        instance = self._instance(id)
        instance.check_alive()
        # So that its end, which is ours, is nobody's news.
        instance.condemned = True
        sealing = seal(self._machine, instance, digest, manifest, forbidden)
        task = spawn(sealing, name=f"seal-{id}", report=False)
        instance.seal = task
        try:
            return await result_of(task, f"sandbox {id} was ended before its changes were kept", _nothing)
        finally:
            await self._retries.now_or_later(id, "be cleaned", lambda: self._end(instance))

    async def recover(
        self, known: list[Known], paused: Mapping[SandboxId, Mapping[str, object]] | None = None
    ) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        outcome: dict[SandboxId, Death | None] = {}
        for id, handle in (paused or {}).items():
            if (record := machine_record(handle)) is not None:
                self._parked[id] = record
                self._machine.park(record)
        for one in known:
            found = await self._recoverer.take_over(one)
            if isinstance(found, Death):
                outcome[one.id] = found
                continue
            self._capacity.adopt(found.execution, found.resources)
            self._add(found)
            outcome[one.id] = None
        await self._recoverer.clear(frozenset(one.execution for one in self._running.values()))
        await self._pool.start()
        return outcome

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """See `Node.save`. A caller that goes away leaves a sandbox that goes on, and no save."""
        instance = self._instance(id)
        with self._in_use.using(save_id):
            task = spawn(self._saver.save(instance, save_id, kind, after), name=f"save-{id}", report=False)
            instance.saves.add(task)

            async def undo() -> None:
                await self._machine.discard_save(save_id)
                await self._saver.go_on(instance)

            try:
                return await result_of(task, f"sandbox {id} was ended while it was saved", undo)
            finally:
                instance.saves.discard(task)

    async def go_on(self, id: SandboxId) -> None:
        """See `Node.go_on`."""
        await self._saver.go_on(self._instance(id))

    async def freeze(self, id: SandboxId) -> None:
        """See `Node.freeze`."""
        await self._changer.freeze(self._instance(id))

    async def thaw(self, id: SandboxId) -> None:
        """See `Node.thaw`."""
        await self._changer.thaw(self._instance(id))

    async def stand_by(self, id: SandboxId) -> None:
        """See `Node.stand_by`."""
        await self._changer.stand_by(self._instance(id))

    async def claim(self, id: SandboxId, what: Claim) -> None:
        """See `Node.claim`."""
        instance = self._instance(id)
        await self._changer.claim(instance, what)
        self._capacity.adopt(instance.execution, instance.resources)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """See `Node.saved`."""
        return await self._machine.saved(save_id)

    async def discard_save(self, save_id: SnapshotId) -> None:
        """See `Node.discard_save`: returns when whoever reads it has ended and it is gone."""
        with self._in_use.doom(save_id):
            await self._in_use.until_unused(save_id)
            await self._machine.discard_save(save_id)

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """See `Node.sweep_saves`; what is in use stays."""
        return await self._machine.sweep_saves(frozenset(keep) | self._in_use.ids)

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Node.diff_saves`."""
        with ExitStack() as reading:
            for save_id in (newer,) if older is None else (older, newer):
                reading.enter_context(self._in_use.using(save_id))
            return await self._machine.diff_saves(older, newer, limit)

    async def export_save(self, save_id: SnapshotId, facts: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        """See `Node.export_save`."""
        with self._in_use.using(save_id):
            async with aclosing(self._machine.export_save(save_id, facts)) as pieces:
                async for piece in pieces:
                    yield piece

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes], admit: Admit) -> Saved:
        """See `Node.import_save`."""
        engines = {engine_of(found) for found in (await self.fingerprints()).values() if found.usable}

        async def judge(facts: Mapping[str, object], saved: Saved) -> None:
            if saved.kind is SaveKind.MEMORY and saved.engine not in engines:
                raise FailedPrecondition(
                    f"the memory in the archive was written by {saved.engine}, which alone can read it; this machine "
                    f"has {', '.join(sorted(engines)) or 'no runtime'}"
                )
            await admit(facts, saved)

        with self._in_use.using(save_id):
            return await self._machine.import_save(save_id, stream, judge)

    async def usage(self, id: SandboxId) -> Usage:
        """See `Node.usage`."""
        instance = self._instance(id)
        return self._sampler.sample(id, instance.resources, await self._machine.consumption(instance.prepared))

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        await self._changer.set_network(self._instance(id), policy)

    async def logs(self, id: SandboxId, limit_bytes: int) -> bytes:
        """See `Node.logs`."""
        return await asyncio.to_thread(read_tail, self._instance(id).prepared.log, limit_bytes)

    def capacity(self) -> NodeCapacity:
        """See `Node.capacity`."""
        return self._capacity.snapshot(self._machine.free()[1])

    def gauges(self) -> Mapping[str, float]:
        """See `Node.gauges`."""
        return {
            **self._machine.gauges(),
            "pool_containers_ready": float(self._pool.ready),
            "node_sandboxes_running": float(len(self._running)),
            "node_sandboxes_launching": float(len(self._launching)),
        }

    async def close(self) -> None:
        """See `Node.close`."""
        instances = (*self._running.values(), *self._leaving.values())
        saving = (task for one in instances for task in (*one.saves, one.seal))
        await cancel_and_wait(*self._launching.values(), *saving)
        await asyncio.gather(*(one.ending for one in instances if one.ending), return_exceptions=True)
        await self._pool.close()
        await self._retries.close()
        await cancel_and_wait(*(one.watcher for one in self._running.values()))
        await self._machine.close()

    def _driver(self, runtime: str) -> RuntimeDriver:
        try:
            return self._drivers[runtime]
        except KeyError:
            names = ", ".join(sorted(self._drivers))
            raise NotFound(f"there is no runtime {runtime!r}; this machine has: {names}") from None

    def _instance(self, id: SandboxId) -> Instance:
        try:
            return self._running[id]
        except KeyError:
            raise NotFound(f"sandbox {id} does not run on this node") from None

    async def _claim(self, execution: SandboxId, what: Launch) -> None:
        """Room for a launch; what is only kept ready goes when there is none else. Raises as `Node.launch`."""
        self._make_way(what.id)
        try:
            self._capacity.claim(execution, what.resources, *self._machine.free())
        except Capacity:
            await self._pool.give_up()
            # Another launch of it may have begun meanwhile.
            self._make_way(what.id)
            self._capacity.claim(execution, what.resources, *self._machine.free())

    def _make_way(self, id: SandboxId) -> None:
        """Put an earlier run of `id` that is being ended aside; it goes away by itself. Raises AlreadyExists."""
        before = self._running.get(id)
        if id in self._launching or (before is not None and not before.condemned):
            raise AlreadyExists(f"sandbox {id} runs already")
        if before is not None:
            del self._running[id]
            self._leaving[before.execution] = before
            # Also when somebody is at it just now: that can fail, and is success when it did not.
            self._retries.later(id, "be cleaned", lambda: self._end(before))

    async def _bring_up(self, way: Way) -> Launched:
        with ExitStack() as reading:
            if way.what.source is not None:
                reading.enter_context(self._in_use.using(way.what.source.save_id))
            instance, phases = await self._launcher.bring_up(way)
        self._capacity.move(way.execution, instance.execution)
        self._parked.pop(instance.id, None)
        self._sampler.forget(instance.id)
        self._add(instance)
        return Launched(instance.prepared.address, instance.to_stored(), phases.seconds)

    def _add(self, instance: Instance) -> None:
        self._running[instance.id] = instance
        instance.watcher = spawn(self._watch(instance), name=f"watch-{instance.id}")

    async def _watch(self, instance: Instance) -> None:
        id = instance.id
        status = await instance.driver.wait(instance.handle)
        if instance.condemned:
            return
        death = death_of(id, status)
        log.warning("a sandbox died", extra={"sandbox_id": id, "reason": death.reason, "detail": death.message})
        # The watcher itself must not be cancelled by the take-down it causes.
        instance.watcher = None
        await self._retries.now_or_later(id, "be cleaned", lambda: self._end(instance))
        replaced = id in self._launching or self._running.get(id, instance) is not instance
        if self._on_death is not None and not replaced:
            await self._on_death(death)

    async def _end(self, instance: Instance, grace_s: float = 0.0) -> None:
        """End one run; callers at once share the work, and one that is gone is success."""
        if instance.execution not in self._leaving and self._running.get(instance.id) is not instance:
            return
        instance.condemned = True
        if instance.ending is None:
            instance.ending = spawn(self._take_down(instance, grace_s), name=f"end-{instance.id}", report=False)
        await asyncio.shield(instance.ending)

    async def _take_down(self, instance: Instance, grace_s: float) -> None:
        """On failure the sandbox stays known, so that the next try goes on where this one stopped."""
        try:
            await cancel_and_wait(instance.watcher, instance.seal, *instance.saves)
            # What stands still must not run on: its save is to be the last of it.
            if grace_s > 0 and not instance.standing:
                await instance.driver.stop(instance.handle, grace_s)
            crash_point("terminate.before_destroy")
            await instance.driver.destroy(instance.handle)
            crash_point("terminate.after_destroy")
            await self._machine.release(instance.prepared)
            crash_point("terminate.after_release")
            if self._leaving.pop(instance.execution, None) is None:
                del self._running[instance.id]
                self._sampler.forget(instance.id)
            self._capacity.give_up(instance.execution)
            self._pool.wake()
        finally:
            instance.ending = None


async def _nothing() -> None:
    """A layer that nobody waits for any more is as good as any other."""
