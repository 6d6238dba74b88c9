"""What a build says, as it says it: kept line by line, and told to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from atolld.control.builds.records import LogFiles
from atolld.core.build import LogEntry
from atolld.foundation.ids import BuildId


class BuildLog:
    """The log of a build that goes on. `levels` and steps are taken from the lines: see `LogEntry`."""

    def __init__(self, store: LogFiles, build_id: BuildId, now: Callable[[], float]) -> None:
        self._store = store
        self._id = build_id
        self._now = now
        self._changed = asyncio.Event()
        self._ended = False
        self.entries: list[LogEntry] = []

    def say(self, level: str, message: str, step: str | None = None) -> None:
        """Add a line."""
        entry = LogEntry(self._now(), level, message, step)
        if self._store.append(self._id, entry):
            self.entries.append(entry)
            self._wake()

    def end(self) -> None:
        """No line follows."""
        self._ended = True
        self._store.close(self._id)
        self._wake()

    async def follow(self, offset: int) -> AsyncIterator[LogEntry]:
        """Every line from `offset` on, until the build has ended."""
        while True:
            changed = self._changed
            while offset < len(self.entries):
                yield self.entries[offset]
                offset += 1
            if self._ended:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
