"""What is done once an hour: old rows go."""

from __future__ import annotations

import asyncio
import logging

from atolld.control.idempotency import KEPT_S
from atolld.control.templateleftovers import Leftovers
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.storage.store import SandboxStore

log = logging.getLogger("atolld.control")

EVERY_S = 3600.0


class Housekeeping:
    """`retention_s`: how long ended sandboxes and their events can be read; None keeps them for ever."""

    def __init__(
        self, store: SandboxStore, leftovers: Leftovers | None, clock: Clock, retention_s: float | None
    ) -> None:
        self._store = store
        self._leftovers = leftovers
        self._clock = clock
        self._retention_s = retention_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; must run inside the event loop."""
        self._task = spawn(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            oldest = 0.0 if self._retention_s is None else now - self._retention_s
            try:
                await self._store.purge(ended_before=oldest, claims_before=now - KEPT_S)
                if self._leftovers is not None:
                    await self._leftovers.forget_unused()
            except Exception:
                log.exception("old rows could not be deleted; the next try is in an hour")
            await self._clock.sleep(EVERY_S)
