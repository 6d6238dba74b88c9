"""Freezing, pausing, resuming and rolling back in SQL: each a part of one transaction, guarded by the source state."""

from __future__ import annotations

from sqlalchemy import Connection, select

from atolld.core.lifecycle import Action, SandboxState, transition
from atolld.core.snapshot import Saved, Snapshot, SnapshotState
from atolld.foundation.errors import Conflict
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId
from atolld.storage.admission import admit
from atolld.storage.guard import guarded, hold
from atolld.storage.rows import resources_from_row
from atolld.storage.saves import add_snapshot, drop_snapshot, finish_snapshot, let_go, prune, snapshot_moved_on
from atolld.storage.schema import snapshots
from atolld.storage.store import Started
from atolld.storage.usage import record_usage


def freeze(connection: Connection, id: SandboxId) -> None:
    """See `SandboxStore.mark_frozen`."""
    target = transition(SandboxState.RUNNING, Action.FREEZE)
    guarded(connection, id, {SandboxState.RUNNING}, state=target.value)


def thaw(connection: Connection, id: SandboxId) -> None:
    """See `SandboxStore.mark_thawed`."""
    target = transition(SandboxState.FROZEN, Action.THAW)
    guarded(connection, id, {SandboxState.FROZEN}, state=target.value)


def begin_pause(connection: Connection, id: SandboxId, source: SandboxState, snapshot: Snapshot) -> None:
    """See `SandboxStore.mark_pausing`."""
    target = transition(source, Action.PAUSE)
    guarded(connection, id, {source}, state=target.value, pending_save_id=snapshot.id)
    add_snapshot(connection, snapshot)


def finish_pause(connection: Connection, id: SandboxId, saved: Saved, paused_at: float) -> None:
    """See `SandboxStore.mark_paused`."""
    target = transition(SandboxState.PAUSING, Action.PAUSED)
    row = hold(connection, id, {SandboxState.PAUSING})
    finish_snapshot(connection, row.pending_save_id, saved)
    record_usage(connection, row, paused_at)
    guarded(
        connection,
        id,
        {SandboxState.PAUSING},
        state=target.value,
        save_id=row.pending_save_id,
        pending_save_id=None,
        paused_at=paused_at,
        seen_at=paused_at,
        metered_until=None,
        expires_at=None,
        address=None,
    )
    let_go(connection, row.save_id)


def give_up_pause(connection: Connection, id: SandboxId) -> None:
    """See `SandboxStore.mark_going_on`."""
    target = transition(SandboxState.PAUSING, Action.GO_ON)
    row = hold(connection, id, {SandboxState.PAUSING})
    guarded(connection, id, {SandboxState.PAUSING}, state=target.value, pending_save_id=None)
    drop_snapshot(connection, row.pending_save_id)


def begin_resume(
    connection: Connection, id: SandboxId, source: SandboxState, save_id: SnapshotId | None, now: float
) -> None:
    """See `SandboxStore.mark_resuming`."""
    target = transition(source, Action.RESUME if save_id is None else Action.ROLLBACK)
    row = hold(connection, id, {source})
    if save_id is not None:
        _check_usable(connection, ProjectId(row.project_id), save_id)
    if source is SandboxState.PAUSED:
        # It held disk only; from now on it takes CPU and memory again.
        admit(connection, ProjectId(row.project_id), resources_from_row(row))
    record_usage(connection, row, now)
    guarded(
        connection,
        id,
        {source},
        state=target.value,
        save_id=save_id or row.save_id,
        metered_until=None,
        expires_at=None,
        address=None,
    )
    if save_id is not None:
        let_go(connection, row.save_id)


def finish_resume(connection: Connection, id: SandboxId, started: Started) -> None:
    """See `SandboxStore.mark_resumed`."""
    target = transition(SandboxState.RESUMING, Action.STARTED)
    row = hold(connection, id, {SandboxState.RESUMING})
    guarded(
        connection,
        id,
        {SandboxState.RESUMING},
        state=target.value,
        head_id=row.save_id,
        paused_at=None,
        metered_until=started.started_at,
        seen_at=started.started_at,
        expires_at=started.expires_at,
        address=started.address,
        handle=dict(started.handle),
    )
    if row.head_id != row.save_id:
        prune(connection, row.head_id)


def give_back(connection: Connection, id: SandboxId, paused_at: float) -> None:
    """See `SandboxStore.mark_given_back`."""
    target = transition(SandboxState.RESUMING, Action.GIVE_BACK)
    guarded(connection, id, {SandboxState.RESUMING}, state=target.value, paused_at=paused_at)


def forget_saves(connection: Connection, save_id: SnapshotId | None, pending_save_id: SnapshotId | None) -> None:
    """The sandbox that had these has ended: its own go, those that users asked for stay."""
    let_go(connection, save_id)
    if pending_save_id is not None:
        drop_snapshot(connection, pending_save_id)


def _check_usable(connection: Connection, project_id: ProjectId, id: SnapshotId) -> None:
    # Locked: between this and the end of the transaction nobody may decide to delete it.
    query = select(snapshots.c.state).where(snapshots.c.id == id, snapshots.c.project_id == project_id)
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        raise Conflict(f"there is no snapshot {id} any more")
    if row.state != SnapshotState.READY.value:
        raise snapshot_moved_on(id, SnapshotState.READY)
