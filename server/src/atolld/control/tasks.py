"""Work that must not stop half-way because its caller went away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock

log = logging.getLogger("atolld.control")

T = TypeVar("T")

_LONGEST_PAUSE_S = 60.0


async def uninterrupted(work: Coroutine[Any, Any, T], *, name: str) -> T:
    """Run `work` to its end even when the caller is cancelled, and give the caller its result or error."""
    return await asyncio.shield(spawn(work, name=name, report=False))


async def until_done(clock: Clock, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try `attempt` until it succeeds, after 1, 2, 4 ... at most 60 s; each failure is logged."""
    pause_s = 1.0
    while True:
        await clock.sleep(pause_s)
        try:
            await attempt()
        except Exception as error:
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            log.error("%s failed again, next try in %g s: %r", what, pause_s, error)
        else:
            return
