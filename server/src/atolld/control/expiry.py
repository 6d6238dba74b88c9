"""Ends sandboxes when their time is up: one heap, one sleeper, nothing read from the database."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.ids import SandboxId

# Expiry is a wall-clock time, sleeping is not: after the clock was set or the machine suspended, this is the longest
# that a due sandbox can wait.
LONGEST_SLEEP_S = 1.0


class Expiry:
    """Calls `on_due(id)` when a scheduled time has come. `on_due` must return at once (it starts the work)."""

    def __init__(self, clock: Clock, on_due: Callable[[SandboxId], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[tuple[float, SandboxId]] = []
        self._due_at: dict[SandboxId, float] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; must run inside the event loop."""
        self._task = spawn(self._run(), name="expiry")

    async def stop(self) -> None:
        """End the loop; what was scheduled is forgotten."""
        await cancel_and_wait(self._task)
        self._task = None
        self._heap.clear()
        self._due_at.clear()

    def schedule(self, id: SandboxId, at: float | None) -> None:
        """From now on `id` is due at `at` (Unix seconds), or never with None; replaces what was scheduled before."""
        if at is None:
            self.cancel(id)
            return
        self._due_at[id] = at
        heapq.heappush(self._heap, (at, id))
        # Replaced times stay in the heap until they come up; a caller that renews each second must not fill it.
        if len(self._heap) > 2 * len(self._due_at) + 64:
            self._heap = [(due, one) for one, due in self._due_at.items()]
            heapq.heapify(self._heap)
        self._changed.set()

    def cancel(self, id: SandboxId) -> None:
        """Forget `id`."""
        self._due_at.pop(id, None)

    def __len__(self) -> int:
        return len(self._due_at)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._fire()
            if not self._heap:
                await self._changed.wait()
                continue
            pause_s = min(LONGEST_SLEEP_S, self._heap[0][0] - self._clock.now())
            sleep = spawn(self._clock.sleep(pause_s), name="expiry-sleep")
            changed = spawn(self._changed.wait(), name="expiry-changed")
            try:
                await asyncio.wait({sleep, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_and_wait(sleep, changed)

    def _fire(self) -> None:
        now = self._clock.now()
        while self._heap:
            at, id = self._heap[0]
            current = self._due_at.get(id) == at
            if current and at > now:
                return
            # Replaced and cancelled times go as they come to the top: a heap of nothing else would keep waking us.
            heapq.heappop(self._heap)
            if current:
                del self._due_at[id]
                self._on_due(id)
