"""Writing a save of a running sandbox.

Order: what is dirty is written out while the guest runs; then it is stopped and gets no packet while its memory is
written, which gVisor does not keep still for (docs/runtimes.md); its disk is put into the save, and it goes on unless
it shall stand; then come checksums and the name. Each step can be the last thing a killed daemon did: a save without a
name is removed at the next start, and the guest is let go on.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import CleanupStack
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import FailedPrecondition, GuestUnreachable, NotFound
from atolld.foundation.ids import SnapshotId
from atolld.node.instance import Instance, engine_of
from atolld.node.interface import After
from atolld.node.launching import GuestFactory
from atolld.node.machine import Machine
from atolld.node.phases import Phases
from atolld.node.retries import Retries, Work
from atolld.runtime.driver import Power, RuntimeDriver

log = logging.getLogger("atolld.node")

# It is asked just before the guest is stopped; one that is slow to answer is taken at its most demanding.
ASK_TIMEOUT_S = 0.5


class Saver:
    """Saves sandboxes, one at a time of each."""

    def __init__(self, machine: Machine, clock: Clock, retries: Retries, guest: GuestFactory) -> None:
        self._machine = machine
        self._clock = clock
        self._retries = retries
        self._guest = guest

    async def save(self, instance: Instance, save_id: SnapshotId, kind: SaveKind, after: After) -> Saved:
        """See `Node.save`."""
        phases = Phases(self._clock)
        async with instance.lock, CleanupStack() as undo:
            phases.end("queue")
            instance.check_alive()
            instance.saves_begun += 1
            undo.push("guest that stands still", lambda: self._let_go_on(instance))
            engine, layers = await self._check(instance, kind)
            await self._machine.settle(instance.prepared)
            crash_point("save.before_begin")
            memory = await self._machine.begin_save(save_id)
            undo.push("save", lambda: self._machine.abandon_save(save_id))
            crash_point("save.after_begin")
            needs_address, envs = await self._ask(instance, kind)
            phases.end("settle")
            started = self._clock.monotonic()
            await self._stand(instance)
            phases.end("suspend")
            crash_point("save.after_suspend")
            if kind is SaveKind.MEMORY:
                undo.push("connection to its network", lambda: self._reconnect(instance))
                await self._machine.cut_off(instance.prepared)
                # Always: the host's table of connections does not tell what the guest believes. One that was cut while
                # the guest was frozen was over for the host and open for the guest, whose agent answered nobody after
                # the restore.
                await instance.driver.checkpoint(instance.handle, memory, end_connections=True)
                crash_point("save.after_checkpoint")
                await self._machine.reconnect(instance.prepared)
                phases.end("memory")
            await self._machine.save_disk(instance.prepared, save_id)
            crash_point("save.after_disk")
            phases.end("disk")
            if after is After.GO_ON:
                await release(instance)
                crash_point("save.after_go_on")
                phases.end("go_on")
            stopped_s = self._clock.monotonic() - started
            saved = await self._machine.finish_save(
                save_id, kind, engine, stopped_s, layers, needs_address=needs_address, envs=envs
            )
            crash_point("save.after_finish")
            phases.end("finish")
            undo.keep()
            return replace(saved, phases_s=phases.seconds)

    async def go_on(self, instance: Instance) -> None:
        """See `Node.go_on`."""
        async with instance.lock:
            instance.check_alive()
            if instance.standing:
                await release(instance)

    async def _check(self, instance: Instance, kind: SaveKind) -> tuple[str, tuple[Path, ...]]:
        """Engine and layers of a save. Raises FailedPrecondition when it cannot be made."""
        fingerprint = await instance.driver.fingerprint()
        missing = fingerprint.missing
        if Power.CHECKPOINT in missing and (kind is SaveKind.MEMORY or Power.FREEZE in missing):
            raise FailedPrecondition(missing[Power.CHECKPOINT])
        if instance.layers is None:
            raise FailedPrecondition(
                f"sandbox {instance.id} was started by an older version, which did not note its template's layers; "
                "it cannot be saved"
            )
        return engine_of(fingerprint) if kind is SaveKind.MEMORY else "", instance.layers

    async def _ask(self, instance: Instance, kind: SaveKind) -> tuple[bool, dict[str, str]]:
        """Whether what is saved may only go on at the address it has, and the variables of its processes.

        True and none when that cannot be known: it is frozen, or its agent does not answer.
        """
        if instance.frozen or instance.standing:
            return True, {}
        guest = self._guest(instance.prepared.address, instance.token)
        try:
            envs = await guest.envs(ASK_TIMEOUT_S)
            return kind is not SaveKind.MEMORY or await guest.needs_address(ASK_TIMEOUT_S), envs
        except GuestUnreachable as error:
            log.info("the agent of %s does not tell of itself: %s", instance.id, error.message)
            return True, {}

    async def _stand(self, instance: Instance) -> None:
        driver, handle = instance.driver, instance.handle
        # Noted before: after a cancellation it may be either.
        instance.standing = True
        if await _stands_frozen(driver):
            await driver.freeze(handle)
        else:
            await driver.suspend(handle)
            instance.frozen = False

    async def _reconnect(self, instance: Instance) -> None:
        await self._now_or_later(instance, "be reconnected", lambda: self._machine.reconnect(instance.prepared))

    async def _let_go_on(self, instance: Instance) -> None:
        async def go_on() -> None:
            # What is being ended needs nothing any more.
            if not instance.condemned:
                with suppress(NotFound):
                    await release(instance)

        await self._now_or_later(instance, "go on", go_on)

    async def _now_or_later(self, instance: Instance, what: str, work: Work) -> None:
        """Undo a part of this save; not once a later one has begun, which does the same for itself."""
        this_one = instance.saves_begun

        async def if_still_due() -> None:
            if instance.saves_begun == this_one:
                await work()

        await self._retries.now_or_later(instance.id, what, if_still_due)


async def release(instance: Instance) -> None:
    """Let it go on after a save, also one that was frozen before. Raises NotFound when it is gone, Internal."""
    driver, handle = instance.driver, instance.handle
    if instance.frozen or (instance.standing and await _stands_frozen(driver)):
        await driver.thaw(handle)
        instance.frozen = False
    if instance.standing and not await _stands_frozen(driver):
        await driver.unsuspend(handle)
    instance.standing = False


async def _stands_frozen(driver: RuntimeDriver) -> bool:
    """Whether a guest of `driver` is stopped for a save by a freeze, for want of anything better."""
    return Power.CHECKPOINT in (await driver.fingerprint()).missing
