"""PostgreSQL through asyncpg (the optional extra `postgres`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from atolld.foundation.aio import spawn
from atolld.foundation.errors import FailedPrecondition

T = TypeVar("T")

# Any fixed number does: it tells our claim from other programs' on the same database.
CLAIM_KEY = 0x41544F4C4C


class PostgresDatabase:
    """Implements `Database` on a server."""

    def __init__(self, url: URL) -> None:
        self._engine: AsyncEngine = create_async_engine(url)
        # Also here one at a time: sequence numbers of events then become visible in their order.
        self._turn = asyncio.Lock()
        self._holder: AsyncConnection | None = None

    @property
    def dialect(self) -> str:
        """`postgresql`."""
        return "postgresql"

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """See `Database.write`."""

        async def run() -> T:
            async with self._turn, self._engine.begin() as connection:
                return await connection.run_sync(work)

        return await asyncio.shield(spawn(run(), name="db-write", report=False))

    async def claim(self) -> None:
        """See `Database.claim`. The server lets go when this connection ends, however the process does."""
        holder = await self._engine.connect()
        taken = (await holder.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": CLAIM_KEY})).scalar()
        # The lock belongs to the session; the transaction need not stay open for it.
        await holder.commit()
        if not taken:
            await holder.close()
            raise FailedPrecondition(
                f"another daemon uses the database {self._engine.url.database!r}; stop it, or give this one its own"
            )
        self._holder = holder

    async def close(self) -> None:
        """See `Database.close`."""
        if self._holder is not None:
            # Not back to the pool: the lock ends with the session.
            await self._holder.invalidate()
            await self._holder.close()
        async with self._turn:
            await self._engine.dispose()
