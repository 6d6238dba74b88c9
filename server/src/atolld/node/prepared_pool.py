"""Containers kept ready for guests, new ones and such that go on from a saved memory, made when the machine has nothing
better to do.

Only for sandboxes with default resources, because a container is made for one size; and of the kind that was asked for
last, because nearly all are of one kind. They are given up as soon as a launch lacks the room they take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.aio import CleanupStack, cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, NotFound
from atolld.foundation.ids import new_sandbox_id
from atolld.node.capacity import CapacityBook
from atolld.node.machine import Machine, Prepared
from atolld.node.retries import Retries
from atolld.runtime.driver import Handle, Power, RuntimeDriver, ShellKind, ShellSpec, TaskState

log = logging.getLogger("atolld.node")

RESOURCES = Resources()
# Measured: 13 to 16, with the memory that the kernel keeps for their network and mounts.
MEMORY_MIB = 24
# After a launch, so that making one does not slow what the user does first.
QUIET_S = 0.3
# After they were given up for want of room, or one could not be made.
PAUSE_S = 30.0
# So many restores in a row that failed in one: then something is wrong with all of them.
MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that waits for a guest."""

    prepared: Prepared
    driver: RuntimeDriver
    handle: Handle
    kind: ShellKind


class PreparedPool:
    """At most `target` waiting containers. `busy`: whether the node has something better to do now."""

    def __init__(
        self,
        *,
        drivers: Mapping[str, RuntimeDriver],
        machine: Machine,
        capacity: CapacityBook,
        clock: Clock,
        retries: Retries,
        agent: Path,
        target: int,
        busy: Callable[[], bool],
    ) -> None:
        self._drivers = drivers
        self._machine = machine
        self._capacity = capacity
        self._clock = clock
        self._retries = retries
        self._agent = agent
        self._target = target
        self._busy = busy
        self._waiting: list[Waiting] = []
        self._wanted: tuple[RuntimeDriver, ShellKind] | None = None
        self._filling: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._failures = 0
        self._giving_up = asyncio.Lock()
        self._open = False

    @property
    def ready(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def start(self) -> None:
        """Begin to fill, for the first runtime that can prepare containers."""
        if self._target == 0:
            return
        for driver in self._drivers.values():
            fingerprint = await driver.fingerprint()
            if fingerprint.usable and Power.PREPARED not in fingerprint.missing:
                kind = await driver.shell_kind(RESOURCES)
                if kind is not None:
                    self._wanted = driver, kind
                    break
        self._open = True
        self.wake()

    def wake(self) -> None:
        """Something has changed: fill up again, in the background."""
        if self._open and self._wanted is not None and (self._filling is None or self._filling.done()):
            self._filling = spawn(self._fill(), name="fill-containers")

    async def take(
        self, driver: RuntimeDriver, resources: Resources, memory: Path | None, layers: Sequence[Path]
    ) -> Waiting | None:
        """One for the guest saved in `memory`, or for a new one on `layers`: it is the caller's to use or remove."""
        if not self._open or self._wanted is None:
            return None
        kind = await driver.shell_kind(resources, memory, None if memory is not None else layers)
        usual = await driver.shell_kind(RESOURCES)
        if kind is None or usual is None or replace(kind, agent_sudo=usual.agent_sudo) != usual:
            return None
        self._wanted = driver, kind
        for one in [one for one in self._waiting if (one.driver, one.kind) == (driver, kind)]:
            self._forget(one)
            with suppress(NotFound):
                await driver.thaw(one.handle)
                if (await driver.inspect(one.handle)).state is TaskState.CREATED:
                    return one
            log.warning("a waiting container has ended", extra={"sandbox_id": one.prepared.id})
            self._remove_later(one)
        return None

    def served(self) -> None:
        """A guest went on in one."""
        self._failures = 0

    def failed(self) -> None:
        """A guest did not. After a few in a row no more are made until the daemon starts again."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            log.error("restores into waiting containers fail; none are made any more until the daemon starts again")
            self._wanted = None

    async def give_up(self) -> bool:
        """Remove all that wait, because their room is needed; whether there were any. None are made for a while."""
        if not self._open:
            return False
        self._not_before = self._clock.monotonic() + PAUSE_S
        had_any = bool(self._waiting) or self._giving_up.locked()
        async with self._giving_up:
            await cancel_and_wait(self._filling)
            await self._remove_all()
        return had_any

    async def close(self) -> None:
        """Remove all that wait and make no more."""
        self._open = False
        await cancel_and_wait(self._filling)
        await self._remove_all()

    async def remove(self, one: Waiting) -> None:
        """Remove one that was taken; what cannot be removed now is tried again in the background."""
        await self._retries.now_or_later(one.prepared.id, "be cleaned", lambda: self._end(one))

    async def _fill(self) -> None:
        while self._open and self._wanted is not None:
            await self._clock.sleep(max(QUIET_S, self._not_before - self._clock.monotonic()))
            if self._busy():
                continue
            driver, kind = self._wanted
            if len(self._waiting) >= self._target:
                others = [one for one in self._waiting if (one.driver, one.kind) != (driver, kind)]
                if len(others) < len(self._waiting):
                    return
                self._forget(others[0])
                await self.remove(others[0])
            if not self._capacity.has_spare(MEMORY_MIB, self._machine.free()[0]):
                return
            try:
                await self._make(driver, kind)
            except (AtollError, OSError, ExceptionGroup) as error:
                log.warning("no container can be prepared, trying again in %.0f s: %s", PAUSE_S, error)
                self._not_before = self._clock.monotonic() + PAUSE_S

    async def _make(self, driver: RuntimeDriver, kind: ShellKind) -> None:
        id = new_sandbox_id()
        async with CleanupStack() as undo:
            prepared = await self._machine.prepare_shell(id, RESOURCES, driver.overhead(RESOURCES))
            undo.push("surroundings", lambda: self._machine.release(prepared))
            crash_point("shell.after_surroundings")
            undo.push("container", lambda: driver.destroy(driver.handle_for(id, prepared.directory)))
            handle = await driver.prepare(
                ShellSpec(
                    id=id,
                    netns=prepared.netns,
                    agent=self._agent,
                    log=prepared.log,
                    directory=prepared.directory,
                    cgroup=prepared.cgroup,
                    resources=RESOURCES,
                    kind=kind,
                )
            )
            crash_point("shell.after_prepare")
            # A sentry that waits wakes up a thousand times a second.
            if Power.FREEZE not in (await driver.fingerprint()).missing:
                await driver.freeze(handle)
                crash_point("shell.after_freeze")
            undo.keep()
        self._waiting.append(Waiting(prepared, driver, handle, kind))
        self._count()

    def _forget(self, one: Waiting) -> None:
        self._waiting.remove(one)
        self._count()

    def _count(self) -> None:
        self._capacity.spare_mib = MEMORY_MIB * len(self._waiting)

    def _remove_later(self, one: Waiting) -> None:
        self._retries.later(one.prepared.id, "be cleaned", lambda: self._end(one))

    async def _remove_all(self) -> None:
        while self._waiting:
            one = self._waiting[0]
            self._forget(one)
            await self.remove(one)

    async def _end(self, one: Waiting) -> None:
        await one.driver.destroy(one.driver.handle_for(one.prepared.id, one.prepared.directory))
        await self._machine.release(one.prepared)
