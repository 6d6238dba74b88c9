"""Which saves are being written or read now, so that none is deleted meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from atolld.foundation.errors import NotFound
from atolld.foundation.ids import SnapshotId


class SavesInUse:
    """Counts users by save. One that waits to be deleted takes no new ones."""

    def __init__(self) -> None:
        self._users: Counter[SnapshotId] = Counter()
        self._doomed: Counter[SnapshotId] = Counter()
        self._unused: dict[SnapshotId, asyncio.Event] = {}

    @property
    def ids(self) -> frozenset[SnapshotId]:
        """Those that have users."""
        return frozenset(self._users)

    @contextmanager
    def using(self, id: SnapshotId) -> Iterator[None]:
        """Keep `id` from being deleted. Raises NotFound when it is about to be."""
        if id in self._doomed:
            raise NotFound(f"there is no save {id} on this node: it is being deleted")
        self._users[id] += 1
        try:
            yield
        finally:
            _less(self._users, id)
            if id not in self._users and id in self._unused:
                self._unused.pop(id).set()

    async def until_unused(self, id: SnapshotId) -> None:
        """Return when nobody uses `id`; call `doom` first, so that nobody begins to."""
        while id in self._users:
            await self._unused.setdefault(id, asyncio.Event()).wait()

    @contextmanager
    def doom(self, id: SnapshotId) -> Iterator[None]:
        """Refuse new users of `id` from now on, until its deletion has ended, well or not."""
        self._doomed[id] += 1
        try:
            yield
        finally:
            _less(self._doomed, id)


def _less(counts: Counter[SnapshotId], id: SnapshotId) -> None:
    counts[id] -= 1
    if counts[id] <= 0:
        del counts[id]
