"""Usage of running sandboxes: samples for graphs, and now and then a sign of life for the accounts.

Seconds held are recorded when a sandbox ends and when the daemon starts again; the sign of life bounds what is charged
for one that ended while no daemon was there to see it.
"""

from __future__ import annotations

import asyncio
import logging

from atolld.control.live import Live, LiveTable
from atolld.control.samples import CADENCE_S
from atolld.control.telemetry import Telemetry
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import NotFound
from atolld.node.interface import Node
from atolld.storage.store import SandboxStore

log = logging.getLogger("atolld.control")

AT_ONCE = 8
SEEN_EVERY_S = 60.0
# Longer than the cadence: a machine under load is slow, and a slow sample is still one.
SAMPLE_LIMIT_S = 20.0


class Sampler:
    """Takes a sample of each running sandbox every 5 s; does nothing at all while there is none."""

    def __init__(self, store: SandboxStore, node: Node, table: LiveTable, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._node = node
        self._table = table
        self._clock = clock
        self._telemetry = telemetry
        self._seen_at = clock.now()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is a running sandbox."""
        if self._task is None:
            self._seen_at = self._clock.now()
            self._task = spawn(self._run(), name="usage-sampler")

    async def stop(self) -> None:
        """End sampling; a sign of life of what goes on is left."""
        await cancel_and_wait(self._task)
        self._task = None
        if self._table.running():
            await self._store.seen(self._clock.now())

    async def _run(self) -> None:
        try:
            due = self._clock.monotonic()
            while self._table.running():
                # Counted from the last due time, so that slow rounds do not stretch the cadence.
                due = max(due + CADENCE_S, self._clock.monotonic())
                await self._clock.sleep(due - self._clock.monotonic())
                await self._round()
        finally:
            self._task = None

    async def _round(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._sample(live, slots) for live in self._table.running()))
        now = self._clock.now()
        if now - self._seen_at >= SEEN_EVERY_S:
            self._seen_at = now
            # On its own: a database that is slow or full must not hold up or end the sampling.
            spawn(self._store.seen(now), name="seen")

    async def _sample(self, live: Live, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                async with asyncio.timeout(SAMPLE_LIMIT_S):
                    live.samples.add(await self._node.usage(live.id))
            except NotFound:
                return
            except Exception as error:
                self._telemetry.count("usage_sample_failures", {})
                log.warning("no usage sample of sandbox %s: %r", live.id, error, extra={"sandbox_id": live.id})
