"""PostgreSQL through asyncpg (the optional extra `postgres`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from atolld.foundation.aio import spawn

T = TypeVar("T")


class PostgresDatabase:
    """Implements `Database` on a server."""

    def __init__(self, url: URL) -> None:
        self._engine: AsyncEngine = create_async_engine(url)
        # Also here one at a time: sequence numbers of events then become visible in their order.
        self._turn = asyncio.Lock()

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

    async def close(self) -> None:
        """See `Database.close`."""
        async with self._turn:
            await self._engine.dispose()
