"""Versions of templates that nobody has a name for, beyond how many of them are kept, inside transactions."""

from __future__ import annotations

from sqlalchemy import Connection, and_, exists, func, or_, select, update

from atolld.core.build import BuildState
from atolld.foundation.ids import BuildId
from atolld.storage.builds import needed
from atolld.storage.schema import pools, template_builds, template_tags, templates

_READY = BuildState.READY.value
_ENDED = (_READY, BuildState.FAILED.value)


def find(connection: Connection, keep: int) -> dict[BuildId, str]:
    """Those that `TemplateRecordStore.delete_surplus` deletes, with the ids of their templates."""
    table = template_builds.c
    there = and_(table.deleted_at.is_(None), table.state.in_(_ENDED))
    tagged = exists().where(template_tags.c.build_id == table.id)
    # Failed ones push no ready ones out, and tags none that have no tag.
    kinds = (table.template_id, table.state)
    order = (table.created_at.desc(), table.id.desc())
    ranked = (
        select(
            table.id,
            func.row_number().over(partition_by=kinds, order_by=order).label("rank"),
            func.row_number().over(partition_by=(*kinds, tagged), order_by=order).label("rank_untagged"),
            tagged.label("tagged"),
        )
        .where(there)
        .subquery()
    )
    # A pool's template is any name of a version; with a build's id it ends in that.
    pooled = exists().where(or_(pools.c.template == table.id, pools.c.template.like("%:" + table.id)))
    query = (
        select(table.id, table.template_id)
        .join(ranked, ranked.c.id == table.id)
        .where(
            ~ranked.c.tagged,
            ranked.c.rank_untagged > keep,
            or_(table.state != _READY, ranked.c.rank > 1),
            ~needed(),
            ~pooled,
        )
        .order_by(table.created_at, table.id)
    )
    return {BuildId(row.id): row.template_id for row in connection.execute(query)}


def delete(connection: Connection, keep: int, now: float) -> list[BuildId]:
    """See `TemplateRecordStore.delete_surplus`."""
    ids = sorted(set(find(connection, keep).values()))
    # Nobody gives a tag to one of them meanwhile.
    connection.execute(select(templates.c.id).where(templates.c.id.in_(ids)).order_by(templates.c.id).with_for_update())
    found = [id for id, template_id in find(connection, keep).items() if template_id in ids]
    connection.execute(update(template_builds).where(template_builds.c.id.in_(found)).values(deleted_at=now))
    return found
