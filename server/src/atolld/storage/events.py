"""The stream of events in SQL."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from atolld.core.event import Event
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.database import Database
from atolld.storage.rows import event_from_row, event_to_row
from atolld.storage.schema import events

# Built once: building a statement costs as much as running it.
_APPEND = insert(events)


def append_event(connection: Connection, event: Event) -> None:
    """Add `event` in the transaction of the change it tells of."""
    connection.execute(_APPEND, event_to_row(event))


class SqlEvents:
    """Implements `EventStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, project_id: ProjectId, sandbox_id: SandboxId | None, after_sequence: int, limit: int
    ) -> list[Event]:
        """See `EventStore.list`."""
        query = (
            select(events)
            .where(events.c.project_id == project_id, events.c.sequence > after_sequence)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        if sandbox_id is not None:
            query = query.where(events.c.sandbox_id == sandbox_id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [event_from_row(row) for row in rows]
