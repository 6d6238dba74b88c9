"""Warm pools in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from atolld.core.pool import Pool
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import PoolId, ProjectId
from atolld.storage.database import Database
from atolld.storage.rows import pool_from_row, resource_columns
from atolld.storage.schema import pools, projects


class SqlPools:
    """Implements `PoolStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, pool: Pool) -> Pool:
        """See `PoolStore.put`."""
        what = {
            "project_id": pool.project_id,
            "template": pool.template,
            "runtime": pool.runtime,
            **resource_columns(pool.resources),
        }
        same = and_(*(pools.c[name] == value for name, value in what.items()))

        def work(connection: Connection) -> Pool:
            # The project's row is locked, so that of two at once the second sees the pool of the first.
            project = select(projects.c.id).where(projects.c.id == pool.project_id).with_for_update()
            if connection.execute(project).first() is None:
                raise NotFound(f"there is no project {pool.project_id}")
            row = connection.execute(update(pools).where(same).values(ready=pool.ready).returning(*pools.c)).first()
            if row is not None:
                return pool_from_row(row)
            connection.execute(insert(pools).values(id=pool.id, ready=pool.ready, created_at=pool.created_at, **what))
            return pool

        return await self._database.write(work)

    async def list(self, project_id: ProjectId | None) -> Sequence[Pool]:
        """See `PoolStore.list`."""
        query = select(pools).order_by(pools.c.created_at, pools.c.id)
        if project_id is not None:
            query = query.where(pools.c.project_id == project_id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [pool_from_row(row) for row in rows]

    async def get(self, project_id: ProjectId, id: PoolId) -> Pool:
        """See `PoolStore.get`."""
        row = await self._database.read(lambda c: c.execute(select(pools).where(_one(project_id, id))).first())
        if row is None:
            raise _unknown(id)
        return pool_from_row(row)

    async def delete(self, project_id: ProjectId, id: PoolId) -> None:
        """See `PoolStore.delete`."""
        change = delete(pools).where(_one(project_id, id))

        def work(connection: Connection) -> None:
            if connection.execute(change).rowcount == 0:
                raise _unknown(id)

        await self._database.write(work)


def _one(project_id: ProjectId, id: PoolId) -> ColumnElement[bool]:
    return and_(pools.c.project_id == project_id, pools.c.id == id)


def _unknown(id: PoolId) -> NotFound:
    return NotFound(f"there is no pool {id}")
