"""Bringing one sandbox up, from nothing or from a save; whatever was made is gone when that fails.

Order: surroundings are prepared, the driver creates and starts or restores, the agent answers. Each step can be the
last thing a killed daemon did. It starts, or goes on from a saved memory, in a container that waits for it, where there
is one that fits; when that fails, it is tried once more as if there were none.

A saved memory is compared with its checksums while it is read into the guest, which takes longer: a guest of a damaged
one is ended before its agent is asked anything, so nobody ever meets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, GuestUnreachable, Internal
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.guest.client import GuestClient, GuestInit
from atolld.node.instance import Instance, engine_of, machine_record
from atolld.node.interface import Launch
from atolld.node.logs import read_tail
from atolld.node.machine import Machine, Prepared
from atolld.node.phases import Phases
from atolld.node.prepared_pool import PreparedPool, Waiting
from atolld.node.retries import Retries
from atolld.runtime.driver import Fingerprint, Handle, LaunchSpec, Power, RuntimeDriver

log = logging.getLogger("atolld.node")

READY_DEADLINE_S = 30.0
AGENT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

# Address, and the token that the agent there knows already (None: none yet).
GuestFactory = Callable[[str, str | None], GuestClient]


def guest_at(address: str, token: str | None) -> GuestClient:
    """The agent of a sandbox."""
    return GuestClient(address, token=token)


@dataclass(frozen=True, slots=True)
class Way:
    """How one launch is done. `execution`: see `Instance`."""

    what: Launch
    execution: SandboxId
    driver: RuntimeDriver
    fingerprint: Fingerprint

    @property
    def from_memory(self) -> bool:
        """Whether it goes on from a saved memory."""
        return self.what.source is not None and self.what.source.kind is SaveKind.MEMORY

    def check(self) -> None:
        """Raises FailedPrecondition when the runtime cannot do it."""
        if self.from_memory and Power.RESTORE in self.fingerprint.missing:
            raise FailedPrecondition(self.fingerprint.missing[Power.RESTORE])

    def point(self, name: str) -> None:
        """A crash point: `launch.<name>`, or `resume.<name>` when it starts from a save."""
        crash_point(f"{'launch' if self.what.source is None else 'resume'}.{name}")


class Sound:
    """Whether the memory of a save is as it was written, found out in the background. `save_id` None: none is read."""

    def __init__(self, machine: Machine, save_id: SnapshotId | None) -> None:
        self._machine = machine
        self._save_id = save_id
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The memory is about to be read into a guest. Not earlier: what comes before would wait for the processor."""
        if self._save_id is not None and self._task is None:
            check = self._machine.check_memory(self._save_id)
            self._task = spawn(check, name=f"check-memory-{self._save_id}", report=False)

    async def wait(self) -> None:
        """Returns when it is, or was not read. Raises as `Machine.check_memory`."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def end(self) -> None:
        """Nobody asks any more: returns when nothing of the save is being read."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.exception()


class Launcher:
    """Brings sandboxes up on a machine.

    `parallel` bounds how many launches work at once: beyond a few per core they only slow each other down, and the last
    of fifty is ready sooner when they queue.
    """

    def __init__(
        self,
        machine: Machine,
        clock: Clock,
        retries: Retries,
        agent: Path,
        guest: GuestFactory,
        pool: PreparedPool,
        parallel: int,
    ) -> None:
        self._machine = machine
        self._pool = pool
        self._clock = clock
        self._retries = retries
        self._agent = agent
        self._guest = guest
        self._slots = asyncio.Semaphore(parallel)

    async def bring_up(self, way: Way) -> tuple[Instance, Phases]:
        """A sandbox whose agent answers, and where the time went. Raises as `Node.launch`.

        Its execution is another than the way's when it goes on in a container that waited.
        """
        what = way.what
        phases = Phases(self._clock)
        async with self._slots:
            phases.end("queue")
            layers, memory = what.layers, Path()
            if what.source is not None:
                way.point("before_check")
                engine = engine_of(way.fingerprint) if way.from_memory else None
                memory = await self._machine.check_save(what.source.save_id, what.source.kind, engine)
                layers = self._machine.save_layers(what.source.save_id)
                phases.end("check")
            sound = Sound(self._machine, what.source.save_id if what.source is not None and way.from_memory else None)
            try:
                return await self._anywhere(way, layers, memory, sound, phases), phases
            except (AtollError, OSError):
                # What goes wrong with a damaged memory goes wrong because of that.
                await sound.wait()
                raise
            finally:
                await sound.end()

    async def _anywhere(
        self, way: Way, layers: tuple[Path, ...], memory: Path, sound: Sound, phases: Phases
    ) -> Instance:
        way.point("before_prepare")
        waiting = await self._take(way, layers, memory)
        if waiting is not None:
            try:
                instance = await self._up(way, layers, memory, sound, waiting, phases)
            except (AtollError, OSError) as error:
                # The guest did go on, and will not answer elsewhere either.
                if isinstance(error, GuestUnreachable):
                    raise
                await sound.wait()
                log.warning("it does not go on in a waiting container: %s", error, extra={"sandbox_id": way.what.id})
                # That the guest is of another kind says nothing of the container.
                if not isinstance(error, FailedPrecondition):
                    self._pool.failed()
            else:
                self._pool.served()
                return instance
        return await self._up(way, layers, memory, sound, None, phases)

    async def _take(self, way: Way, layers: tuple[Path, ...], memory: Path) -> Waiting | None:
        source = way.what.source
        # Whether a saved disk has changed what decides of the kind is not known before it is mounted.
        if source is not None and not way.from_memory:
            return None
        try:
            # Only one that has to be where it was needs the slot that it had, and a container has one already.
            if source is not None and self._machine.needs_address(source.save_id):
                return None
            return await self._pool.take(way.driver, way.what.resources, None if source is None else memory, layers)
        except (AtollError, OSError) as error:
            log.warning("no waiting container is used: %s", error, extra={"sandbox_id": way.what.id})
            return None

    async def _up(
        self,
        way: Way,
        layers: tuple[Path, ...],
        memory: Path,
        sound: Sound,
        waiting: Waiting | None,
        phases: Phases,
    ) -> Instance:
        what, driver = way.what, way.driver
        prepared = await self._prepare(way, layers) if waiting is None else waiting.prepared
        try:
            if waiting is not None:
                await self._furnish(way, layers, prepared)
            phases.end("prepare")
            way.point("after_prepare")
            spec = self._launch_spec(way, prepared)
            if way.from_memory:
                sound.begin()
                handle = await driver.restore(spec, memory, None if waiting is None else waiting.handle)
                way.point("after_restore")
            elif waiting is not None:
                handle = await driver.start_into(spec, waiting.handle)
                way.point("after_start")
            else:
                handle = await driver.create(spec)
                way.point("after_create")
                handle = await driver.start(handle)
                way.point("after_start")
            phases.end("restore" if way.from_memory else "start")
            if way.from_memory:
                await sound.wait()
                phases.end("verify")
            await self._wait_ready(way, handle, prepared)
            phases.end("agent")
            way.point("after_ready")
        except BaseException:
            # Shielded: a cancelled launch must still be taken down in full.
            await asyncio.shield(spawn(self._discard(driver, prepared), name=f"discard-{what.id}"))
            raise
        return Instance(what.id, prepared, driver, handle, what.resources, what.network, layers, token=what.agent_token)

    async def _furnish(self, way: Way, layers: tuple[Path, ...], prepared: Prepared) -> None:
        what = way.what
        await self._machine.furnish(
            prepared,
            layers,
            what.resources,
            way.driver.overhead(what.resources),
            what.network,
            source=None if what.source is None else what.source.save_id,
            formerly=machine_record(what.formerly),
        )

    async def _prepare(self, way: Way, layers: tuple[Path, ...]) -> Prepared:
        try:
            return await self._build(way, layers)
        except Capacity:
            # It may be the addresses that waiting containers hold.
            if not await self._pool.give_up():
                raise
        return await self._build(way, layers)

    async def _build(self, way: Way, layers: tuple[Path, ...]) -> Prepared:
        what = way.what
        return await self._machine.prepare(
            way.execution,
            layers,
            what.resources,
            way.driver.overhead(what.resources),
            what.network,
            source=None if what.source is None else what.source.save_id,
            formerly=machine_record(what.formerly),
        )

    def _launch_spec(self, way: Way, prepared: Prepared) -> LaunchSpec:
        return LaunchSpec(
            id=prepared.id,
            rootfs=prepared.rootfs,
            netns=prepared.netns,
            agent=self._agent,
            log=prepared.log,
            directory=prepared.directory,
            cgroup=prepared.cgroup,
            resources=way.what.resources,
            hostname=way.what.hostname,
            env=AGENT_ENV,
        )

    async def _wait_ready(self, way: Way, handle: Handle, prepared: Prepared) -> None:
        what = way.what
        init = GuestInit(
            access_token=what.agent_token,
            now=self._clock.now(),
            sandbox_id=what.id,
            template_id=what.template_id,
            hostname=what.hostname,
            # What came back with its memory has them, and they need not be ours.
            default_user=None if way.from_memory else what.user,
            default_workdir=None if way.from_memory else what.workdir,
            envs=self._envs(way),
            pids_max=what.resources.pids_max,
        )
        known_token = what.source.agent_token if what.source is not None and way.from_memory else None
        guest = self._guest(prepared.address, known_token)
        ready = spawn(guest.wait_ready(init, READY_DEADLINE_S), name=f"ready-{what.id}", report=False)
        died = spawn(way.driver.wait(handle), name=f"early-death-{what.id}", report=False)
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

    def _envs(self, way: Way) -> Mapping[str, str]:
        """The variables to give to its agent. A guest that goes on from memory has its own; the same sandbox booted
        from its files gets those that it had, and another one made from them gets none of them."""
        source = way.what.source
        if source is None or way.from_memory or way.what.formerly is None:
            return way.what.envs
        return {**self._machine.envs(source.save_id), **way.what.envs}

    async def _discard(self, driver: RuntimeDriver, prepared: Prepared) -> None:
        """Remove what a failed launch made; what cannot be removed now is tried again in the background."""

        async def remove() -> None:
            await driver.destroy(driver.handle_for(prepared.id, self._machine.driver_directory(prepared.id)))
            await self._machine.release(prepared)

        await self._retries.now_or_later(prepared.id, "be cleaned", remove)
