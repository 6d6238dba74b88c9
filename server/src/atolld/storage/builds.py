"""Builds of templates inside transactions: each write guarded by the state it came from, and what nothing needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, insert, or_, select, update

from atolld.core.build import BuildState, build_transition
from atolld.core.snapshot import SnapshotRole, SnapshotState
from atolld.core.template import Build
from atolld.foundation.errors import Conflict, FailedPrecondition, NotFound
from atolld.foundation.ids import BuildId, SnapshotId, TemplateId
from atolld.storage.saves import LIVE, drop_snapshot
from atolld.storage.schema import (
    sandboxes,
    snapshots,
    template_assignments,
    template_builds,
    template_tags,
    templates,
)
from atolld.storage.templaterows import build_from_row, build_to_row

_KEPT = (SnapshotState.CREATING.value, SnapshotState.READY.value)
_ENDED = (BuildState.READY.value, BuildState.FAILED.value)


def hold_template(connection: Connection, id: TemplateId) -> Row[Any]:
    """The row of a template that is not deleted, which nobody else changes until the transaction ends.

    Raises NotFound.
    """
    query = select(templates).where(templates.c.id == id, templates.c.deleted_at.is_(None)).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no template {id}")
    return row


def touch(connection: Connection, id: TemplateId, now: float) -> None:
    """The template has changed."""
    connection.execute(update(templates).where(templates.c.id == id).values(updated_at=now))


def insert_build(connection: Connection, build: Build) -> Build:
    """See `TemplateRecordStore.insert_build`."""
    hold_template(connection, build.template_id)
    connection.execute(insert(template_builds).values(build_to_row(build)))
    touch(connection, build.template_id, build.created_at)
    row = connection.execute(select(template_builds).where(template_builds.c.id == build.id)).one()
    return build_from_row(row)


def move(connection: Connection, id: BuildId, target: BuildState, **values: object) -> Build:
    """Write `target` and columns of a build that can get there and is not deleted. Raises Conflict."""
    row = connection.execute(_there(id).with_for_update()).first()
    if row is None:
        raise Conflict(f"build {id} was deleted meanwhile")
    source = BuildState(row.state)
    try:
        build_transition(source, target)
    except FailedPrecondition as error:
        raise Conflict(f"build {id} is {source.value}: {error.message}") from None
    changed = connection.execute(
        update(template_builds)
        .where(template_builds.c.id == id, template_builds.c.state == source.value)
        .values(state=target.value, **values)
        .returning(*template_builds.c)
    ).one()
    return build_from_row(changed)


def get_build(connection: Connection, id: BuildId, deleted: bool) -> Build | None:
    """See `TemplateRecordStore.build`."""
    query = select(template_builds).where(template_builds.c.id == id) if deleted else _there(id)
    row = connection.execute(query).first()
    return None if row is None else build_from_row(row)


def resolve(connection: Connection, template_id: TemplateId, tag: str) -> Build | None:
    """See `TemplateRecordStore.resolve`."""
    tagged = select(template_tags.c.build_id).where(
        template_tags.c.template_id == template_id, template_tags.c.tag == tag
    )
    query = select(template_builds).where(
        template_builds.c.template_id == template_id,
        template_builds.c.state == BuildState.READY.value,
        template_builds.c.deleted_at.is_(None),
        # No tag has the form of a build's id.
        or_(template_builds.c.id == tag, template_builds.c.id.in_(tagged)),
    )
    row = connection.execute(query).first()
    return None if row is None else build_from_row(row)


def delete_build(connection: Connection, id: BuildId, now: float) -> None:
    """See `TemplateRecordStore.delete_build`."""
    row = connection.execute(_there(id).with_for_update()).first()
    if row is None:
        raise NotFound(f"there is no build {id}")
    if row.state not in _ENDED:
        raise FailedPrecondition(f"build {id} is {row.state}; cancel it first")
    tag = connection.execute(
        select(template_tags.c.tag).where(template_tags.c.build_id == id).order_by(template_tags.c.tag).limit(1)
    ).scalar()
    if tag is not None:
        raise FailedPrecondition(f"build {id} has the tag {tag!r}; give that to another build or remove it first")
    connection.execute(update(template_builds).where(template_builds.c.id == id).values(deleted_at=now))
    touch(connection, TemplateId(row.template_id), now)


def needed() -> ColumnElement[bool]:
    """Whether something that began with the build of the enclosing query may need what is known of it: a sandbox that
    has not ended, or a snapshot. Their layers are kept by their own mounts and saves, too."""
    live = exists().where(sandboxes.c.build_id == template_builds.c.id, sandboxes.c.state.in_(LIVE))
    saved = exists().where(
        snapshots.c.build_id == template_builds.c.id,
        snapshots.c.state.in_(_KEPT),
        snapshots.c.role != SnapshotRole.TEMPLATE.value,
    )
    return or_(live, saved)


def remove(connection: Connection, id: BuildId) -> None:
    """See `TemplateRecordStore.remove`."""
    row = connection.execute(
        select(template_builds.c.template_id, template_builds.c.save_id, template_builds.c.deleted_at, needed())
        .where(template_builds.c.id == id)
        .with_for_update()
    ).first()
    if row is None:
        return
    if row.deleted_at is None or row[3]:
        raise Conflict(f"build {id} is needed")
    connection.execute(delete(template_assignments).where(template_assignments.c.build_id == id))
    if row.save_id is not None:
        drop_snapshot(connection, SnapshotId(row.save_id))
    connection.execute(delete(template_builds).where(template_builds.c.id == id))
    remove_template_without_builds(connection, TemplateId(row.template_id))


def remove_template_without_builds(connection: Connection, id: TemplateId) -> None:
    """Delete the row of a deleted template that has no build left."""
    connection.execute(
        delete(templates).where(
            templates.c.id == id,
            templates.c.deleted_at.is_not(None),
            ~exists().where(template_builds.c.template_id == id),
        )
    )


def unused(connection: Connection, before: float) -> list[TemplateId]:
    """See `TemplateRecordStore.unused`."""
    builds = template_builds.c
    named = exists().where(sandboxes.c.build_id == builds.id) | exists().where(
        snapshots.c.build_id == builds.id, snapshots.c.role != SnapshotRole.TEMPLATE.value
    )
    in_use = exists().where(
        builds.template_id == templates.c.id,
        or_(builds.finished_at.is_(None), builds.finished_at >= before, named),
    )
    query = (
        select(templates.c.id)
        .where(templates.c.hidden, templates.c.deleted_at.is_(None), templates.c.updated_at < before, ~in_use)
        .order_by(templates.c.created_at, templates.c.id)
    )
    return [TemplateId(row.id) for row in connection.execute(query)]


def _there(id: BuildId) -> Select[Any]:
    return select(template_builds).where(template_builds.c.id == id, template_builds.c.deleted_at.is_(None))
