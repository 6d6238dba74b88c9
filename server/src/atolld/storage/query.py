"""Lists of sandboxes: filters, order and position in one query."""

from __future__ import annotations

from sqlalchemy import Connection, select, tuple_

from atolld.foundation.ids import SandboxId
from atolld.storage.rows import sandbox_from_row
from atolld.storage.schema import sandbox_metadata, sandboxes
from atolld.storage.store import Listed, Position, SandboxQuery


def list_sandboxes(connection: Connection, query: SandboxQuery) -> list[Listed]:
    """At most `query.limit` sandboxes that match, ordered by start (or creation) and id.

    The position is a value and not a count, so what is added or ends between two pages shifts nothing.
    """
    table = sandboxes.c
    statement = select(sandboxes).where(table.project_id == query.project_id).limit(query.limit)
    if query.states:
        statement = statement.where(table.state.in_(sorted(state.value for state in query.states)))
    if query.template is not None:
        statement = statement.where((table.template_name == query.template) | (table.template_id == query.template))
    if query.started_after is not None:
        statement = statement.where(table.started_at > query.started_after)
    for key, value in query.metadata.items():
        pair = sandbox_metadata.alias()
        statement = statement.where(
            select(pair.c.key).where(pair.c.sandbox_id == table.id, pair.c.key == key, pair.c.value == value).exists()
        )
    place = tuple_(table.listed_at, table.id)
    if query.order == "asc":
        statement = statement.order_by(table.listed_at, table.id)
        if query.after is not None:
            statement = statement.where(place > tuple_(query.after.listed_at, query.after.id))
    else:
        statement = statement.order_by(table.listed_at.desc(), table.id.desc())
        if query.after is not None:
            statement = statement.where(place < tuple_(query.after.listed_at, query.after.id))
    return [
        Listed(sandbox_from_row(row), Position(row.listed_at, SandboxId(row.id)))
        for row in connection.execute(statement)
    ]
