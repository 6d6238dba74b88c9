"""Work that several builds want at once, done once.

Whoever joins sees what was said so far and what follows. The work ends early only when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from atolld.foundation.aio import cancel_and_wait, spawn

# One line of output, and its level.
Say = Callable[[str, str], None]

_REPLAYED_LINES = 1000


@dataclass(slots=True)
class _Work:
    waiting: int = 0
    listeners: list[Say] = field(default_factory=list)
    said: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_REPLAYED_LINES))
    task: asyncio.Task[None] | None = None

    def say(self, level: str, line: str) -> None:
        self.said.append((level, line))
        for listener in self.listeners:
            listener(level, line)


class SharedWork:
    """Work by key."""

    def __init__(self) -> None:
        self._under_way: dict[str, _Work] = {}

    async def join(self, key: str, begin: Callable[[Say], Coroutine[Any, Any, None]], say: Say) -> bool:
        """Wait for the work `key`, begun when nobody else has; returns whether it was begun for this caller.

        Raises what the work raises. A caller that is cancelled goes; the last one takes the work with it.
        """
        work = self._under_way.get(key)
        began = work is None
        if work is None:
            work = self._under_way[key] = _Work()
            work.task = spawn(self._run(key, work, begin), name=f"build-{key[:12]}", report=False)
        else:
            for level, line in work.said:
                say(level, line)
        work.listeners.append(say)
        work.waiting += 1
        assert work.task is not None
        try:
            await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            work.listeners.remove(say)
            if work.waiting == 0 and not work.task.done():
                # From now on the next one begins anew.
                self._drop(key, work)
                await asyncio.shield(spawn(cancel_and_wait(work.task), name=f"end-build-{key[:12]}"))
        return began

    async def _run(self, key: str, work: _Work, begin: Callable[[Say], Coroutine[Any, Any, None]]) -> None:
        try:
            await begin(work.say)
        finally:
            self._drop(key, work)

    def _drop(self, key: str, work: _Work) -> None:
        if self._under_way.get(key) is work:
            del self._under_way[key]
