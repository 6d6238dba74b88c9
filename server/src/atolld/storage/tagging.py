"""Tags of templates inside transactions: which build one means, and which it meant."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from atolld.core.build import BuildState
from atolld.core.template import Assignment, Tag
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import BuildId, TemplateId
from atolld.storage.builds import hold_template, touch
from atolld.storage.schema import template_assignments, template_builds, template_tags
from atolld.storage.templaterows import tag_from_row


def assign(
    connection: Connection, template_id: TemplateId, tags: Sequence[str], build_id: BuildId, now: float
) -> list[Tag]:
    """See `TemplateRecordStore.assign`."""
    hold_template(connection, template_id)
    row = connection.execute(
        select(template_builds.c.state).where(
            template_builds.c.id == build_id,
            template_builds.c.template_id == template_id,
            template_builds.c.deleted_at.is_(None),
        )
    ).first()
    if row is None:
        raise NotFound(f"the template has no build {build_id}")
    if row.state != BuildState.READY.value:
        raise FailedPrecondition(f"build {build_id} is {row.state}; only one that is ready can have a tag")
    for tag in tags:
        give(connection, template_id, tag, build_id, now)
    touch(connection, template_id, now)
    return [Tag(template_id, tag, build_id, now) for tag in tags]


def assign_newer(
    connection: Connection, template_id: TemplateId, tags: Sequence[str], build_id: BuildId, now: float
) -> None:
    """Give tags to a build that has just become ready, but for those that mean a build which was asked for later."""
    mine = select(template_builds.c.created_at).where(template_builds.c.id == build_id).scalar_subquery()
    held = connection.execute(
        select(template_tags.c.tag)
        .join(template_builds, template_builds.c.id == template_tags.c.build_id)
        .where(
            template_tags.c.template_id == template_id,
            template_tags.c.tag.in_(tags),
            template_builds.c.created_at > mine,
        )
    ).scalars()
    newer = set(held)
    for tag in tags:
        if tag not in newer:
            give(connection, template_id, tag, build_id, now)


def give(connection: Connection, template_id: TemplateId, tag: str, build_id: BuildId, now: float) -> None:
    """The tag means the build from now on; its holding the tag already is success, and is no new assignment."""
    mine = (template_tags.c.template_id == template_id) & (template_tags.c.tag == tag)
    row = connection.execute(select(template_tags.c.build_id).where(mine)).first()
    if row is not None and row.build_id == build_id:
        return
    values = {"build_id": build_id, "assigned_at": now}
    if row is None:
        connection.execute(insert(template_tags).values(template_id=template_id, tag=tag, **values))
    else:
        connection.execute(update(template_tags).where(mine).values(**values))
    connection.execute(insert(template_assignments).values(template_id=template_id, tag=tag, **values))


def untag(connection: Connection, template_id: TemplateId, tags: Sequence[str]) -> None:
    """See `TemplateRecordStore.untag`."""
    hold_template(connection, template_id)
    for tag in tags:
        for table in (template_assignments, template_tags):
            mine = (table.c.template_id == template_id) & (table.c.tag == tag)
            gone = connection.execute(delete(table).where(mine)).rowcount
        if gone == 0:
            raise NotFound(f"the template has no tag {tag[:128]!r}")


def list_tags(connection: Connection, template_id: TemplateId) -> list[Tag]:
    """See `TemplateRecordStore.tags`."""
    query = select(template_tags).where(template_tags.c.template_id == template_id).order_by(template_tags.c.tag)
    return [tag_from_row(row) for row in connection.execute(query)]


def history(
    connection: Connection, template_id: TemplateId, tag: str, limit: int, before: int | None
) -> list[Assignment]:
    """See `TemplateRecordStore.history`."""
    table = template_assignments.c
    query = (
        select(template_assignments, template_builds.c.created_at, template_builds.c.finished_at)
        .join(template_builds, template_builds.c.id == table.build_id)
        .where(table.template_id == template_id, table.tag == tag, template_builds.c.deleted_at.is_(None))
        .order_by(table.sequence.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(table.sequence < before)
    return [
        Assignment(row.sequence, row.tag, BuildId(row.build_id), row.assigned_at, row.created_at, row.finished_at)
        for row in connection.execute(query)
    ]
