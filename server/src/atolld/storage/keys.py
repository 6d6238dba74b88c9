"""API keys in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from atolld.core.project import ApiKey
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import KeyId, ProjectId
from atolld.storage.database import Database
from atolld.storage.rows import key_from_row
from atolld.storage.schema import api_keys


class SqlKeys:
    """Implements `KeyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, key: ApiKey, secret_sha256: str) -> None:
        """See `KeyStore.insert`."""
        values = {
            "id": key.id,
            "project_id": key.project_id,
            "name": key.name,
            "prefix": key.prefix,
            "secret_sha256": secret_sha256,
            "created_at": key.created_at,
        }
        try:
            await self._database.write(lambda c: c.execute(insert(api_keys).values(values)))
        except IntegrityError:
            # Ids and secrets are random: the only reference that can fail is the project's.
            raise NotFound(f"there is no project {key.project_id}") from None

    async def list(self, project_id: ProjectId) -> list[ApiKey]:
        """See `KeyStore.list`."""
        query = (
            select(api_keys).where(api_keys.c.project_id == project_id).order_by(api_keys.c.created_at, api_keys.c.id)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [key_from_row(row) for row in rows]

    async def rename(self, project_id: ProjectId, id: KeyId, name: str) -> None:
        """See `KeyStore.rename`."""
        await self._change(project_id, id, name=name)

    async def revoke(self, project_id: ProjectId, id: KeyId, now: float) -> None:
        """See `KeyStore.revoke`."""
        await self._change(project_id, id, revoked_at=now)

    async def _change(self, project_id: ProjectId, id: KeyId, **values: object) -> None:
        change = (
            update(api_keys)
            .where(api_keys.c.id == id, api_keys.c.project_id == project_id, api_keys.c.revoked_at.is_(None))
            .values(values)
        )
        if await self._database.write(lambda c: c.execute(change).rowcount) == 0:
            raise NotFound(f"there is no key {id} in this project, or it is revoked already")

    async def find(self, secret_sha256: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        query = select(api_keys).where(api_keys.c.secret_sha256 == secret_sha256)
        row = await self._database.read(lambda c: c.execute(query).first())
        return None if row is None else key_from_row(row)

    async def touch(self, used: Mapping[KeyId, float]) -> None:
        """See `KeyStore.touch`."""
        if not used:
            return
        change = update(api_keys).where(api_keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("at"))
        rows = [{"key_id": id, "at": at} for id, at in used.items()]

        def work(connection: Connection) -> None:
            connection.execute(change, rows)

        await self._database.write(work)
