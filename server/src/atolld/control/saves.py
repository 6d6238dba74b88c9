"""Saves: how one comes to be as a row, and how the files of those that nothing needs go."""

from __future__ import annotations

import asyncio
import logging

from atolld.control.templateleftovers import Leftovers
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import Conflict
from atolld.foundation.ids import new_snapshot_id
from atolld.node.interface import Node
from atolld.storage.store import SnapshotStore

log = logging.getLogger("atolld.control")

RETRY_S = 30.0


def draft_save(sandbox: Sandbox, role: SnapshotRole, kind: SaveKind, now: float, name: str | None = None) -> Snapshot:
    """A save of `sandbox` that exists nowhere yet."""
    return Snapshot(
        id=new_snapshot_id(),
        project_id=sandbox.project_id,
        sandbox_id=sandbox.id,
        parent_id=sandbox.head_id,
        role=role,
        state=SnapshotState.CREATING,
        kind=kind,
        name=name,
        template_id=sandbox.template_id,
        template_name=sandbox.template_name,
        runtime=sandbox.spec.runtime,
        resources=sandbox.spec.resources,
        agent_token=sandbox.agent_token,
        secure=sandbox.spec.secure,
        created_at=now,
        build_id=sandbox.build_id,
    )


class Garbage:
    """Deletes the files of saves that nobody needs, one after the other in the background; before that, what is left of
    deleted templates, whose saves then are among them."""

    def __init__(self, store: SnapshotStore, node: Node, clock: Clock, leftovers: Leftovers | None = None) -> None:
        self._store = store
        self._leftovers = leftovers
        self._node = node
        self._clock = clock
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; must run inside the event loop."""
        self._task = spawn(self._run(), name="garbage")

    def wake(self) -> None:
        """There may be something to delete."""
        self._wanted.set()

    async def stop(self) -> None:
        """End; what is left is deleted by the next daemon."""
        await cancel_and_wait(self._task)
        self._task = None

    async def recover(self) -> None:
        """Give up what an earlier daemon was writing, and delete every file that no row explains."""
        for id in await self._store.interrupted():
            await self._store.mark_deleting(id)
        for id in await self._node.sweep_saves(await self._store.needed()):
            log.info("a save that nothing needs was deleted", extra={"save_id": id})
        if self._leftovers is not None:
            await self._leftovers.recover()
        self.wake()

    async def collect(self) -> None:
        """Delete what can be deleted now. Raises the first failure, after all were tried."""
        failures: list[Exception] = []
        if self._leftovers is not None:
            try:
                await self._leftovers.collect()
            except Exception as error:
                failures.append(error)
        for id in await self._store.removable():
            try:
                await self._node.discard_save(id)
                await self._store.mark_deleted(id)
            except Conflict:
                continue
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.collect()
            except Exception as error:
                log.error("saves could not be deleted, next try in %g s: %r", RETRY_S, error)
                await self._clock.sleep(RETRY_S)
                self.wake()
