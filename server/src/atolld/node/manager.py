"""The node in this process: builds sandboxes up, watches them, takes them down, finds them again.

Order of a launch: room is claimed, surroundings are prepared, the driver creates and starts, the agent answers.
Order of an end: the driver destroys, then the surroundings go, then the claim. Each step of both can be the last thing
a killed daemon did; `recover` makes whole or removes whatever it finds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import FileDiff, Saved, SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, FailedPrecondition, Internal, NotFound, RuntimeUnusable, Unimplemented
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.guest.client import GuestClient, GuestInit
from atolld.node.capacity import CapacityBook
from atolld.node.interface import (
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
from atolld.node.logs import read_tail
from atolld.node.machine import Machine, Prepared
from atolld.node.phases import Phases
from atolld.node.sampler import Sampler
from atolld.runtime.driver import Fingerprint, Handle, LaunchSpec, RuntimeDriver, TaskState, TaskStatus

log = logging.getLogger("atolld.node")

READY_DEADLINE_S = 30.0
# Before each new try to remove what could not be removed; the last one is repeated.
RETRY_PAUSES_S = (0.5, 2.0, 10.0, 30.0)
AGENT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

_SOON = "this node cannot save yet"

GuestFactory = Callable[[str], GuestClient]


@dataclass(slots=True)
class _Instance:
    """One running sandbox of this node."""

    prepared: Prepared
    driver: RuntimeDriver
    handle: Handle
    resources: Resources
    watcher: asyncio.Task[None] | None = None


class NodeManager:
    """Implements `atolld.node.interface.Node` with drivers and a `Machine`.

    `parallel_launches` bounds how many launches work at once: beyond a few per core they only slow each other down, and
    the last of fifty is ready sooner when they queue.
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
        guest: GuestFactory = GuestClient,
    ) -> None:
        self._drivers = drivers
        self._machine = machine
        self._capacity = capacity
        self._clock = clock
        self._agent = agent
        self._guest = guest
        self._slots = asyncio.Semaphore(parallel_launches)
        self._running: dict[SandboxId, _Instance] = {}
        self._launching: dict[SandboxId, asyncio.Task[Launched]] = {}
        self._ending: dict[SandboxId, asyncio.Task[None]] = {}
        self._cleaning: set[asyncio.Task[None]] = set()
        self._sampler = Sampler(clock)
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
        memory_free_mib, disk_free_mib = self._machine.free()
        self._capacity.claim(what.id, what.resources, memory_free_mib, disk_free_mib)
        task = spawn(self._bring_up(driver, what), name=f"launch-{what.id}", report=False)
        self._launching[what.id] = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller and caller.cancelling()):
                raise FailedPrecondition(f"sandbox {what.id} was ended while it was starting") from None
            await cancel_and_wait(task)
            if not task.cancelled() and task.exception() is None:
                await self.terminate(what.id)
            raise
        finally:
            del self._launching[what.id]
            if what.id not in self._running:
                self._capacity.give_up(what.id)

    async def terminate(self, id: SandboxId, grace_s: float = 0.0) -> None:
        """See `Node.terminate`."""
        launching = self._launching.get(id)
        if launching is not None:
            await cancel_and_wait(launching)
        if id in self._running and id not in self._ending:
            self._ending[id] = spawn(self._take_down(id, grace_s), name=f"end-{id}", report=False)
        ending = self._ending.get(id)
        if ending is not None:
            await asyncio.shield(ending)

    async def recover(self, known: list[Known]) -> dict[SandboxId, Death | None]:
        """See `Node.recover`."""
        outcome: dict[SandboxId, Death | None] = {}
        for one in known:
            outcome[one.id] = await self._recover_one(one)
        keep = frozenset(self._running)
        for driver in self._drivers.values():
            if not (await driver.fingerprint()).usable:
                continue
            for id in await driver.list_owned():
                if id not in keep:
                    log.info("removing a leftover sandbox", extra={"sandbox_id": id, "runtime": driver.name})
                    await driver.destroy(driver.handle_for(id, self._machine.driver_directory(id)))
        await self._machine.sweep(keep)
        return outcome

    async def save(self, id: SandboxId, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """See `Node.save`."""
        raise Unimplemented(_SOON)

    async def go_on(self, id: SandboxId) -> None:
        """See `Node.go_on`."""
        raise Unimplemented(_SOON)

    async def freeze(self, id: SandboxId) -> None:
        """See `Node.freeze`."""
        raise Unimplemented(_SOON)

    async def thaw(self, id: SandboxId) -> None:
        """See `Node.thaw`."""
        raise Unimplemented(_SOON)

    async def claim(self, id: SandboxId, old_token: str, what: Claim) -> None:
        """See `Node.claim`."""
        raise Unimplemented(_SOON)

    async def saved(self, save_id: SnapshotId) -> Saved | None:
        """See `Node.saved`."""
        return None

    async def discard_save(self, save_id: SnapshotId) -> None:
        """See `Node.discard_save`."""

    async def sweep_saves(self, keep: Collection[SnapshotId]) -> Sequence[SnapshotId]:
        """See `Node.sweep_saves`."""
        return ()

    async def diff_saves(self, older: SnapshotId | None, newer: SnapshotId, limit: int) -> Sequence[FileDiff]:
        """See `Node.diff_saves`."""
        raise Unimplemented(_SOON)

    def export_save(self, save_id: SnapshotId) -> AsyncIterator[bytes]:
        """See `Node.export_save`."""
        raise Unimplemented(_SOON)

    async def import_save(self, save_id: SnapshotId, stream: AsyncIterator[bytes]) -> Saved:
        """See `Node.import_save`."""
        raise Unimplemented(_SOON)

    async def usage(self, id: SandboxId) -> Usage:
        """See `Node.usage`."""
        instance = self._instance(id)
        return self._sampler.sample(id, instance.resources, await self._machine.consumption(instance.prepared))

    async def set_network(self, id: SandboxId, policy: NetworkPolicy) -> None:
        """See `Node.set_network`."""
        await self._machine.set_network(self._instance(id).prepared, policy)

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
            "node_sandboxes_running": float(len(self._running)),
            "node_sandboxes_launching": float(len(self._launching)),
        }

    async def close(self) -> None:
        """See `Node.close`."""
        await cancel_and_wait(*self._launching.values())
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        await cancel_and_wait(*self._cleaning, *(one.watcher for one in self._running.values()))
        await self._machine.close()

    def _driver(self, runtime: str) -> RuntimeDriver:
        try:
            return self._drivers[runtime]
        except KeyError:
            names = ", ".join(sorted(self._drivers))
            raise NotFound(f"there is no runtime {runtime!r}; this machine has: {names}") from None

    def _instance(self, id: SandboxId) -> _Instance:
        try:
            return self._running[id]
        except KeyError:
            raise NotFound(f"sandbox {id} does not run on this node") from None

    async def _bring_up(self, driver: RuntimeDriver, what: Launch) -> Launched:
        phases = Phases(self._clock)
        async with self._slots:
            phases.end("queue")
            crash_point("launch.before_prepare")
            overhead = driver.overhead(what.resources)
            prepared = await self._machine.prepare(what.id, what.layers, what.resources, overhead, what.network)
            try:
                phases.end("prepare")
                crash_point("launch.after_prepare")
                handle = await driver.create(self._launch_spec(what, prepared))
                crash_point("launch.after_create")
                handle = await driver.start(handle)
                phases.end("start")
                crash_point("launch.after_start")
                await self._wait_ready(driver, handle, what, prepared)
                phases.end("agent")
                crash_point("launch.after_ready")
            except BaseException:
                # Shielded: a cancelled launch must still be taken down in full.
                await asyncio.shield(spawn(self._discard(driver, prepared), name=f"discard-{what.id}"))
                raise
            self._add(what.id, _Instance(prepared, driver, handle, what.resources))
        return Launched(prepared.address, self._stored(handle, prepared), phases.seconds)

    async def _discard(self, driver: RuntimeDriver, prepared: Prepared) -> None:
        """Remove what a failed launch made; what cannot be removed now is tried again in the background."""

        async def remove() -> None:
            await driver.destroy(driver.handle_for(prepared.id, self._machine.driver_directory(prepared.id)))
            await self._machine.release(prepared)

        try:
            await remove()
        except Exception:
            log.exception("a failed launch cannot be cleaned yet", extra={"sandbox_id": prepared.id})
            self._retry(prepared.id, remove)

    def _retry(self, id: SandboxId, remove: Callable[[], Awaitable[None]]) -> None:
        """Try `remove` again until it succeeds: before the next start of the daemon nobody else would."""

        async def go_on() -> None:
            for pause_s in itertools.chain(RETRY_PAUSES_S, itertools.repeat(RETRY_PAUSES_S[-1])):
                await self._clock.sleep(pause_s)
                try:
                    return await remove()
                except Exception:
                    log.exception("a sandbox cannot be cleaned yet", extra={"sandbox_id": id})

        task = spawn(go_on(), name=f"clean-{id}")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    def _launch_spec(self, what: Launch, prepared: Prepared) -> LaunchSpec:
        return LaunchSpec(
            id=what.id,
            rootfs=prepared.rootfs,
            netns=prepared.netns,
            agent=self._agent,
            log=prepared.log,
            directory=prepared.directory,
            cgroup=prepared.cgroup,
            resources=what.resources,
            hostname=what.hostname,
            env=AGENT_ENV,
        )

    async def _wait_ready(self, driver: RuntimeDriver, handle: Handle, what: Launch, prepared: Prepared) -> None:
        init = GuestInit(
            access_token=what.agent_token,
            now=self._clock.now(),
            sandbox_id=what.id,
            template_id=what.template_id,
            hostname=what.hostname,
            envs=what.envs,
            pids_max=what.resources.pids_max,
        )
        ready = spawn(
            self._guest(prepared.address).wait_ready(init, READY_DEADLINE_S), name=f"ready-{what.id}", report=False
        )
        died = spawn(driver.wait(handle), name=f"early-death-{what.id}", report=False)
        try:
            await asyncio.wait({ready, died}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                await ready
                return
            status = await died
            tail = await asyncio.to_thread(read_tail, prepared.log, 2000)
            raise Internal(
                f"the sandbox ended before its agent answered: {status.message or 'no reason given'}",
                agent_log=tail.decode(errors="replace"),
            )
        finally:
            await cancel_and_wait(*(task for task in (ready, died) if not task.done()))

    def _add(self, id: SandboxId, instance: _Instance) -> None:
        self._running[id] = instance
        instance.watcher = spawn(self._watch(id, instance), name=f"watch-{id}")

    async def _watch(self, id: SandboxId, instance: _Instance) -> None:
        status = await instance.driver.wait(instance.handle)
        if id in self._ending:
            return
        death = _death(id, status)
        log.warning("a sandbox died", extra={"sandbox_id": id, "reason": death.reason, "detail": death.message})
        # The watcher itself must not be cancelled by the take-down it causes.
        instance.watcher = None
        try:
            await self.terminate(id)
        except Exception:
            log.exception("a dead sandbox cannot be cleaned yet", extra={"sandbox_id": id})
            self._retry(id, lambda: self.terminate(id))
        if self._on_death is not None:
            await self._on_death(death)

    async def _take_down(self, id: SandboxId, grace_s: float) -> None:
        """On failure the sandbox stays known, so that the next `terminate` goes on where this one stopped."""
        instance = self._running[id]
        try:
            await cancel_and_wait(instance.watcher)
            if grace_s > 0:
                await instance.driver.stop(instance.handle, grace_s)
            crash_point("terminate.before_destroy")
            await instance.driver.destroy(instance.handle)
            crash_point("terminate.after_destroy")
            await self._machine.release(instance.prepared)
            crash_point("terminate.after_release")
            del self._running[id]
            self._sampler.forget(id)
            self._capacity.give_up(id)
        finally:
            del self._ending[id]

    async def _recover_one(self, known: Known) -> Death | None:
        driver = self._drivers.get(known.runtime)
        if driver is None or known.handle is None:
            return Death(known.id, EndReason.CRASHED, "the daemon was stopped before the sandbox was up")
        handle, record = self._parse_stored(known)
        undo = driver.handle_for(known.id, self._machine.driver_directory(known.id))
        try:
            status = await driver.recover(handle)
            if status.state is TaskState.RUNNING:
                prepared = await self._machine.adopt(known.id, record, known.network)
                self._capacity.adopt(known.id, known.resources)
                self._add(known.id, _Instance(prepared, driver, handle, known.resources))
                return None
            death = _death(known.id, status)
        except AtollError as error:
            log.error("a sandbox could not be taken over", extra={"sandbox_id": known.id, "detail": error.message})
            death = Death(known.id, EndReason.CRASHED, f"it could not be taken over: {error.message}")
        await driver.destroy(undo)
        return death

    def _parse_stored(self, known: Known) -> tuple[Handle, Mapping[str, object]]:
        stored = known.handle or {}
        handle, record = stored.get("driver"), stored.get("machine")
        if not isinstance(handle, dict) or not isinstance(record, dict):
            raise Internal(f"the stored handle of sandbox {known.id} is damaged")
        return Handle.from_json(handle), record

    def _stored(self, handle: Handle, prepared: Prepared) -> dict[str, object]:
        return {"driver": handle.to_json(), "machine": dict(prepared.record)}


def _death(id: SandboxId, status: TaskStatus) -> Death:
    if status.out_of_memory:
        return Death(id, EndReason.OUT_OF_MEMORY, status.message or "it used more memory than its limit")
    return Death(id, EndReason.CRASHED, status.message or "its processes ended by themselves")
