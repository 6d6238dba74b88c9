"""Snapshots in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, exists, or_, select, tuple_, update

from atolld.core.event import Event
from atolld.core.lifecycle import SandboxState
from atolld.core.snapshot import Saved, Snapshot, SnapshotRole, SnapshotState, plain_name, snapshot_transition
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId, is_snapshot_id
from atolld.storage.admission import saved_bytes
from atolld.storage.database import Database
from atolld.storage.events import append_event
from atolld.storage.rows import saved_columns, snapshot_from_row
from atolld.storage.saves import (
    add_snapshot,
    drop_snapshot,
    finish_snapshot,
    prune,
    resumed_from,
    snapshot_moved_on,
)
from atolld.storage.schema import sandboxes, snapshots
from atolld.storage.store import SnapshotQuery

_READY = SnapshotState.READY.value


class SqlSnapshots:
    """Implements `SnapshotStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, snapshot: Snapshot) -> None:
        """See `SnapshotStore.insert`."""
        await self._database.write(lambda c: add_snapshot(c, snapshot))

    async def mark_ready(self, id: SnapshotId, saved: Saved, event: Event | None, *, moves_head: bool = True) -> None:
        """See `SnapshotStore.mark_ready`."""

        def work(connection: Connection) -> None:
            finish_snapshot(connection, id, saved, moves_head=moves_head)
            if event is not None:
                append_event(connection, event)

        await self._database.write(work)

    async def mark_deleting(self, id: SnapshotId) -> None:
        """See `SnapshotStore.mark_deleting`."""

        def work(connection: Connection) -> None:
            if not drop_snapshot(connection, id):
                raise snapshot_moved_on(id, SnapshotState.CREATING, SnapshotState.READY)

        await self._database.write(work)

    async def mark_deleted(self, id: SnapshotId) -> None:
        """See `SnapshotStore.mark_deleted`."""
        target = snapshot_transition(SnapshotState.DELETING, SnapshotState.DELETED)
        change = (
            update(snapshots)
            .where(snapshots.c.id == id, snapshots.c.state == SnapshotState.DELETING.value)
            .values(state=target.value, agent_token="", **saved_columns(None))
        )

        def work(connection: Connection) -> None:
            if connection.execute(change).rowcount == 0:
                raise snapshot_moved_on(id, SnapshotState.DELETING)
            prune(connection, id)

        await self._database.write(work)

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        """See `SnapshotStore.get`."""
        wanted = (
            snapshots.c.id == id_or_name if is_snapshot_id(id_or_name) else snapshots.c.name == plain_name(id_or_name)
        )
        query = select(snapshots).where(snapshots.c.project_id == project_id, snapshots.c.state == _READY, wanted)
        row = await self._database.read(lambda c: c.execute(query).first())
        if row is None:
            raise NotFound(f"there is no snapshot {id_or_name[:200]!r}")
        return snapshot_from_row(row)

    async def find(self, id: SnapshotId) -> Snapshot | None:
        """See `SnapshotStore.find`."""
        row = await self._database.read(lambda c: c.execute(select(snapshots).where(snapshots.c.id == id)).first())
        return None if row is None else snapshot_from_row(row)

    async def list(self, query: SnapshotQuery) -> Sequence[Snapshot]:
        """See `SnapshotStore.list`."""
        table = snapshots.c
        statement = (
            select(snapshots)
            .where(table.project_id == query.project_id, table.state == _READY)
            .where(table.role.in_(sorted(role.value for role in query.roles)))
            .order_by(table.created_at.desc(), table.id.desc())
            .limit(query.limit)
        )
        if query.sandbox_id is not None:
            statement = statement.where(table.sandbox_id == query.sandbox_id)
        if query.name is not None:
            statement = statement.where(table.name == plain_name(query.name))
        if query.after is not None:
            place = tuple_(table.created_at, table.id)
            statement = statement.where(place < tuple_(query.after.created_at, query.after.id))
        rows = await self._database.read(lambda c: c.execute(statement).all())
        return [snapshot_from_row(row) for row in rows]

    async def tree(self, project_id: ProjectId, sandbox_id: SandboxId) -> Sequence[Snapshot]:
        """See `SnapshotStore.tree`."""
        heads = select(sandboxes.c.head_id).where(sandboxes.c.id == sandbox_id, sandboxes.c.project_id == project_id)
        # Up and down from the sandbox's own ones, until nothing new is found (UNION leaves out what was there).
        joined = (
            select(snapshots.c.id, snapshots.c.parent_id)
            .where(snapshots.c.project_id == project_id)
            .where(or_(snapshots.c.sandbox_id == sandbox_id, snapshots.c.id.in_(heads)))
            .cte("joined", recursive=True)
        )
        other = snapshots.alias()
        joined = joined.union(
            select(other.c.id, other.c.parent_id).join(
                joined, or_(other.c.id == joined.c.parent_id, other.c.parent_id == joined.c.id)
            )
        )
        query = (
            select(snapshots)
            .where(snapshots.c.id.in_(select(joined.c.id)))
            .order_by(snapshots.c.created_at, snapshots.c.id)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return _shown([snapshot_from_row(row) for row in rows])

    async def needed(self) -> set[SnapshotId]:
        """See `SnapshotStore.needed`."""
        kept = (SnapshotState.CREATING.value, _READY)
        query = select(snapshots.c.id).where(or_(snapshots.c.state.in_(kept), resumed_from()))
        return set(await self._ids(query))

    async def removable(self) -> Sequence[SnapshotId]:
        """See `SnapshotStore.removable`."""
        deleting = snapshots.c.state == SnapshotState.DELETING.value
        return await self._ids(select(snapshots.c.id).where(deleting, ~resumed_from()))

    async def interrupted(self) -> Sequence[SnapshotId]:
        """See `SnapshotStore.interrupted`."""
        awaited = exists().where(
            sandboxes.c.pending_save_id == snapshots.c.id, sandboxes.c.state == SandboxState.PAUSING.value
        )
        half = (snapshots.c.state == SnapshotState.CREATING.value) & ~awaited
        fork = (snapshots.c.state == _READY) & (snapshots.c.role == SnapshotRole.FORK.value)
        return await self._ids(select(snapshots.c.id).where(half | fork))

    async def saved_bytes(self, project_id: ProjectId) -> int:
        """See `SnapshotStore.saved_bytes`."""
        return await self._database.read(lambda c: saved_bytes(c, project_id))

    async def _ids(self, query: Select[Any]) -> Sequence[SnapshotId]:
        ordered = query.order_by(snapshots.c.created_at, snapshots.c.id)
        rows = await self._database.read(lambda c: c.execute(ordered).all())
        return [SnapshotId(row.id) for row in rows]


def _shown(found: Sequence[Snapshot]) -> list[Snapshot]:
    """Of a whole tree what is shown: whole ones, and those on the way up from a whole one. Saves of forks are left out;
    what was taken of a fork is below what the fork was made from."""
    by_id = {snapshot.id: snapshot for snapshot in found}

    def parent_of(snapshot: Snapshot) -> Snapshot | None:
        parent = by_id.get(snapshot.parent_id) if snapshot.parent_id is not None else None
        while parent is not None and parent.role is SnapshotRole.FORK:
            parent = by_id.get(parent.parent_id) if parent.parent_id is not None else None
        return parent

    parents: dict[SnapshotId, SnapshotId | None] = {}
    for snapshot in found:
        here: Snapshot | None = snapshot
        if snapshot.state is not SnapshotState.READY or snapshot.role is SnapshotRole.FORK:
            continue
        while here is not None and here.id not in parents:
            parent = parent_of(here)
            parents[here.id] = None if parent is None else parent.id
            here = parent
    return [replace(snapshot, parent_id=parents[snapshot.id]) for snapshot in found if snapshot.id in parents]
