"""Usage in SQL: what was granted, multiplied by the time it was held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.database import Database
from atolld.storage.schema import usage
from atolld.storage.store import UsageRecord


def record_usage(connection: Connection, sandbox: Row[Any], until: float) -> None:
    """Add what the sandbox of this row held from its `metered_until` to `until`; nothing when that is no time."""
    since = sandbox.metered_until
    if since is None or until <= since:
        return
    held_s = until - since
    connection.execute(
        insert(usage).values(
            sandbox_id=sandbox.id,
            project_id=sandbox.project_id,
            since=since,
            until=until,
            vcpu_s=sandbox.cpu * held_s,
            memory_gib_s=sandbox.memory_mib / 1024 * held_s,
        )
    )


class SqlUsage:
    """Implements `UsageStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, project_id: ProjectId, since: float, until: float) -> Sequence[UsageRecord]:
        """See `UsageStore.list`."""
        query = (
            select(usage)
            .where(usage.c.project_id == project_id, usage.c.until > since, usage.c.since < until)
            .order_by(usage.c.since, usage.c.sandbox_id)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [
            UsageRecord(
                SandboxId(row.sandbox_id),
                ProjectId(row.project_id),
                row.since,
                row.until,
                row.vcpu_s,
                row.memory_gib_s,
            )
            for row in rows
        ]
