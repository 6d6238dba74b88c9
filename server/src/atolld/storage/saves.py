"""What happens to rows of snapshots inside the transactions of others: when one becomes whole, when it is let go, and
when nothing needs its row any more."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update

from atolld.core.lifecycle import LIVE_STATES
from atolld.core.snapshot import SNAPSHOT_TRANSITIONS, Saved, Snapshot, SnapshotRole, SnapshotState, snapshot_transition
from atolld.foundation.errors import Conflict
from atolld.foundation.ids import SandboxId, SnapshotId
from atolld.storage.admission import admit_save
from atolld.storage.rows import saved_columns, snapshot_to_row
from atolld.storage.schema import projects, sandboxes, snapshots

LIVE = sorted(state.value for state in LIVE_STATES)
_DELETABLE = sorted(source.value for source, target in SNAPSHOT_TRANSITIONS if target is SnapshotState.DELETING)


def resumed_from() -> ColumnElement[bool]:
    """Whether a live sandbox resumes from the snapshot of the enclosing query, or came from it."""
    return exists().where(sandboxes.c.save_id == snapshots.c.id, sandboxes.c.state.in_(LIVE))


def add_snapshot(connection: Connection, snapshot: Snapshot) -> None:
    """Insert it in `creating`. Raises LimitExceeded, NotFound without the project."""
    admit_save(connection, snapshot.project_id, snapshot.role)
    connection.execute(insert(snapshots).values(snapshot_to_row(snapshot)))


def finish_snapshot(connection: Connection, id: SnapshotId, saved: Saved, *, moves_head: bool = True) -> None:
    """creating -> ready: the name moves here, and one that a user asked for becomes its source's head. Raises
    Conflict."""
    target = snapshot_transition(SnapshotState.CREATING, SnapshotState.READY)
    row = connection.execute(
        update(snapshots)
        .where(snapshots.c.id == id, snapshots.c.state == SnapshotState.CREATING.value)
        .values(state=target.value, **saved_columns(saved))
        .returning(snapshots.c.project_id, snapshots.c.sandbox_id, snapshots.c.name, snapshots.c.role)
    ).first()
    if row is None:
        raise snapshot_moved_on(id, SnapshotState.CREATING)
    if row.name is not None:
        # The project's row is locked, so that of two at once the second sees the first as the earlier holder.
        connection.execute(select(projects.c.id).where(projects.c.id == row.project_id).with_for_update())
        connection.execute(
            update(snapshots)
            .where(
                snapshots.c.project_id == row.project_id,
                snapshots.c.name == row.name,
                snapshots.c.state == SnapshotState.READY.value,
                snapshots.c.id != id,
            )
            .values(name=None)
        )
    if moves_head and row.role == SnapshotRole.SNAPSHOT.value:
        move_head(connection, row.sandbox_id, id)


def drop_snapshot(connection: Connection, id: SnapshotId) -> bool:
    """creating or ready -> deleting, without its name; False when it was in neither."""
    change = (
        update(snapshots)
        .where(snapshots.c.id == id, snapshots.c.state.in_(_DELETABLE))
        .values(state=SnapshotState.DELETING.value, name=None)
    )
    return connection.execute(change).rowcount > 0


def let_go(connection: Connection, id: SnapshotId | None) -> None:
    """A sandbox has stopped resuming from `id`: it is `deleting`, unless a user asked for it or another live sandbox
    resumes from it. To be called after that sandbox's row was written."""
    if id is None:
        return
    change = (
        update(snapshots)
        .where(
            snapshots.c.id == id,
            snapshots.c.role == SnapshotRole.PAUSE.value,
            snapshots.c.state == SnapshotState.READY.value,
            ~resumed_from(),
        )
        .values(state=snapshot_transition(SnapshotState.READY, SnapshotState.DELETING).value, name=None)
    )
    connection.execute(change)


def move_head(connection: Connection, sandbox_id: SandboxId, head_id: SnapshotId | None) -> None:
    """The next snapshot's parent of a live sandbox; gone is success."""
    mine = (sandboxes.c.id == sandbox_id) & sandboxes.c.state.in_(LIVE)
    row = connection.execute(select(sandboxes.c.head_id).where(mine).with_for_update()).first()
    if row is None or row.head_id == head_id:
        return
    connection.execute(update(sandboxes).where(mine).values(head_id=head_id))
    prune(connection, row.head_id)


def prune(connection: Connection, id: SnapshotId | None) -> None:
    """Something that named the snapshot as parent or head does so no more: remove its row if its files are gone and
    nothing else names it, and then its parent's, and so on.

    The row of a pause's or a fork's save that only one other snapshot still names is removed too, and that one gets its
    parent: it joins nothing, and a sandbox that is paused a thousand times would keep a thousand of them.
    """
    while id is not None:
        row = connection.execute(
            select(snapshots.c.parent_id, snapshots.c.role).where(
                snapshots.c.id == id, snapshots.c.state == SnapshotState.DELETED.value
            )
        ).first()
        if (
            row is None
            or connection.execute(
                select(sandboxes.c.id).where(sandboxes.c.head_id == id, sandboxes.c.state.in_(LIVE)).limit(1)
            ).first()
        ):
            return
        children = connection.execute(select(snapshots.c.id).where(snapshots.c.parent_id == id).limit(2)).all()
        if len(children) > 1 or (children and row.role == SnapshotRole.SNAPSHOT.value):
            return
        connection.execute(update(snapshots).where(snapshots.c.parent_id == id).values(parent_id=row.parent_id))
        connection.execute(delete(snapshots).where(snapshots.c.id == id))
        id = row.parent_id


def snapshot_moved_on(id: SnapshotId, *sources: SnapshotState) -> Conflict:
    """The error of a write whose guard did not hold."""
    names = " or ".join(source.value for source in sources)
    return Conflict(f"snapshot {id} is no longer {names}: something else changed it first")
