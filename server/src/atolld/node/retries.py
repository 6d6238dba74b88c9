"""What must be done in the end although it cannot be done now: removing, and letting a guest go on."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.ids import SandboxId

log = logging.getLogger("atolld.node")

# Before each new try; the last one is repeated.
RETRY_PAUSES_S = (0.5, 2.0, 10.0, 30.0)

Work = Callable[[], Awaitable[None]]


class Retries:
    """Work that is tried until it succeeds: before the next start of the daemon nobody else would."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def now_or_later(self, id: SandboxId, what: str, work: Work) -> None:
        """Do `work`; when it fails, try again in the background. `what` names it in the log, as in "be cleaned"."""
        if not await self._try(id, what, work):
            self.later(id, what, work)

    def later(self, id: SandboxId, what: str, work: Work) -> None:
        """Try `work` in the background, the first time after a short pause."""

        async def go_on() -> None:
            for pause_s in itertools.chain(RETRY_PAUSES_S, itertools.repeat(RETRY_PAUSES_S[-1])):
                await self._clock.sleep(pause_s)
                if await self._try(id, what, work):
                    return

        task = spawn(go_on(), name=f"retry-{id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still to be done."""
        await cancel_and_wait(*self._tasks)

    async def _try(self, id: SandboxId, what: str, work: Work) -> bool:
        try:
            await work()
        except Exception:
            log.exception("a sandbox cannot %s yet", what, extra={"sandbox_id": id})
            return False
        return True
