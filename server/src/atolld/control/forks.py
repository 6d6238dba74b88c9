"""Forks: several new sandboxes with the memory and files that one has now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from atolld.control.live import Live
from atolld.control.resuming import TimeoutS, Unchanged
from atolld.control.snapshots import Snapshots
from atolld.control.starts import Start, of_snapshot
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.core.snapshot import SaveKind, SnapshotRole
from atolld.foundation.errors import AtollError, Internal, InvalidArgument
from atolld.foundation.ids import ProjectId
from atolld.storage.store import Claim

MAX_FORKS = 100

Create = Callable[[ProjectId, SandboxSpec, Start, Claim | None], Awaitable[Sandbox]]


class Forks:
    """Makes them: one save, which goes when the siblings stand."""

    def __init__(self, snapshots: Snapshots, create: Create) -> None:
        self._snapshots = snapshots
        self._create = create

    async def fork(self, live: Live, count: int, timeout_s: TimeoutS) -> Sequence[Sandbox | AtollError]:
        """See `Sandboxes.fork`."""
        if not 1 <= count <= MAX_FORKS:
            raise InvalidArgument(f"count is {count}; it must be between 1 and {MAX_FORKS}")
        save = await self._snapshots.take(live, SnapshotRole.FORK, SaveKind.MEMORY)
        sandbox = live.sandbox
        spec = sandbox.spec if isinstance(timeout_s, Unchanged) else replace(sandbox.spec, timeout_s=timeout_s)
        # In the tree they stand where the source stands: the save itself does not stay.
        start = replace(of_snapshot(save), head_id=sandbox.head_id)
        try:
            made = await asyncio.gather(
                *(self._create(sandbox.project_id, spec, start, None) for _ in range(count)), return_exceptions=True
            )
        finally:
            await self._snapshots.forget(save)
        return [_told(one) for one in made]


def _told(made: Sandbox | BaseException) -> Sandbox | AtollError:
    if isinstance(made, Sandbox | AtollError):
        return made
    if not isinstance(made, Exception):
        raise made
    return Internal(f"a fork failed unexpectedly: {made}")
