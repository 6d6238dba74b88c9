"""What lists say of templates, for a whole page in three queries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from atolld.core.build import BuildState
from atolld.core.template import Build, Tag
from atolld.core.templatenames import DEFAULT_TAG
from atolld.foundation.ids import TemplateId
from atolld.storage.schema import template_builds, template_tags, templates
from atolld.storage.templaterows import build_from_row, tag_from_row
from atolld.storage.templatestore import Outline


def outlines(connection: Connection, ids: Sequence[TemplateId]) -> dict[TemplateId, Outline]:
    """See `TemplateRecordStore.outlines`."""
    table = template_builds.c
    there = select(templates.c.id).where(templates.c.id.in_(ids), templates.c.deleted_at.is_(None))
    found = [TemplateId(id) for id in connection.execute(there).scalars()]
    mine = table.template_id.in_(found) & table.deleted_at.is_(None)
    # The newest build, the newest ready one, and those that tags called `default` mean: at most three of each template.
    order = (table.created_at.desc(), table.id.desc())
    ranked = select(
        table.id,
        func.row_number().over(partition_by=table.template_id, order_by=order).label("rank"),
        func.row_number().over(partition_by=(table.template_id, table.state), order_by=order).label("rank_of_state"),
        func.count().over(partition_by=table.template_id).label("total"),
        table.state,
    ).where(mine)
    numbered = ranked.subquery()
    default = select(template_tags.c.build_id).where(template_tags.c.tag == DEFAULT_TAG)
    rows = connection.execute(
        select(template_builds, numbered.c.rank, numbered.c.total)
        .join(numbered, numbered.c.id == table.id)
        .where(
            (numbered.c.rank == 1)
            | ((numbered.c.state == BuildState.READY.value) & (numbered.c.rank_of_state == 1))
            | table.id.in_(default)
        )
        .order_by(numbered.c.rank)
    ).all()
    tags: dict[TemplateId, list[Tag]] = {id: [] for id in found}
    tagged = select(template_tags).where(template_tags.c.template_id.in_(found)).order_by(template_tags.c.tag)
    for row in connection.execute(tagged):
        tags[TemplateId(row.template_id)].append(tag_from_row(row))
    builds: dict[TemplateId, list[Build]] = {id: [] for id in found}
    totals: dict[TemplateId, int] = {}
    for row in rows:
        builds[TemplateId(row.template_id)].append(build_from_row(row))
        totals[TemplateId(row.template_id)] = row.total
    return {id: _outline(builds[id], totals.get(id, 0), tuple(tags[id])) for id in found}


def _outline(newest_first: Sequence[Build], total: int, tags: tuple[Tag, ...]) -> Outline:
    newest = newest_first[0] if newest_first else None
    default = {tag.build_id for tag in tags if tag.tag == DEFAULT_TAG}
    current = next((build for build in newest_first if build.id in default), None)
    current = current or next((build for build in newest_first if build.state is BuildState.READY), newest)
    return Outline(current, newest, total, tags)
