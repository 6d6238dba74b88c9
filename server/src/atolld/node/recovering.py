"""Finding again what an earlier daemon left: what still runs is taken over, everything else is removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from atolld.core.lifecycle import EndReason
from atolld.foundation.errors import AtollError, NotFound
from atolld.foundation.ids import SandboxId
from atolld.node.instance import Instance, Stored
from atolld.node.interface import Death, Known
from atolld.node.machine import Machine
from atolld.node.retries import Retries
from atolld.node.saving import release
from atolld.runtime.driver import Power, RuntimeDriver, TaskState, TaskStatus

log = logging.getLogger("atolld.node")


class Recoverer:
    """Takes over sandboxes and clears away leftovers."""

    def __init__(self, drivers: Mapping[str, RuntimeDriver], machine: Machine, retries: Retries) -> None:
        self._drivers = drivers
        self._machine = machine
        self._retries = retries

    async def take_over(self, known: Known) -> Instance | Death:
        """The sandbox if it still runs, with everything as `known` says; otherwise how it ended."""
        driver = self._drivers.get(known.runtime)
        if driver is None or known.handle is None:
            return Death(known.id, EndReason.CRASHED, "the daemon was stopped before the sandbox was up")
        stored = Stored.of(known)
        execution = stored.handle.id
        try:
            status = await driver.recover(stored.handle)
            if status.state is TaskState.RUNNING:
                prepared = await self._machine.adopt(known.id, stored.machine, known.network)
                found = Instance(
                    known.id,
                    prepared,
                    driver,
                    stored.handle,
                    known.resources,
                    known.network,
                    stored.layers,
                    token=known.agent_token,
                )
                await self._retries.now_or_later(known.id, "be set as it was", lambda: _set_power(found, known))
                return found
            death = death_of(known.id, status)
        except AtollError as error:
            log.error("a sandbox could not be taken over", extra={"sandbox_id": known.id, "detail": error.message})
            death = Death(known.id, EndReason.CRASHED, f"it could not be taken over: {error.message}")
        await driver.destroy(driver.handle_for(execution, self._machine.driver_directory(execution)))
        return death

    async def clear(self, keep: frozenset[SandboxId]) -> None:
        """Remove every execution that is not in `keep`."""
        for driver in self._drivers.values():
            if not (await driver.fingerprint()).usable:
                continue
            for id in await driver.list_owned():
                if id not in keep:
                    log.info("removing a leftover sandbox", extra={"sandbox_id": id, "runtime": driver.name})
                    await driver.destroy(driver.handle_for(id, self._machine.driver_directory(id)))
        await self._machine.sweep(keep)


async def _set_power(instance: Instance, known: Known) -> None:
    """Let it go on if it may stand still, then freeze or thaw it."""
    driver = instance.driver
    can_freeze = Power.FREEZE not in (await driver.fingerprint()).missing
    async with instance.lock:
        if instance.condemned:
            return
        with suppress(NotFound):
            # Thawed first: what is frozen cannot be told to go on.
            instance.frozen, instance.standing = can_freeze, known.standing
            await release(instance)
            if known.frozen and can_freeze:
                instance.frozen = True
                await driver.freeze(instance.handle)


def death_of(id: SandboxId, status: TaskStatus) -> Death:
    """How sandbox `id` ended, from what its driver saw."""
    if status.out_of_memory:
        return Death(id, EndReason.OUT_OF_MEMORY, status.message or "it used more memory than its limit")
    return Death(id, EndReason.CRASHED, status.message or "its processes ended by themselves")
