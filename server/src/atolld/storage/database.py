"""The connection to the database: how transactions are opened, and nothing about what is in it.

Store verbs are plain functions of a SQLAlchemy `Connection`, run by `read` or `write`. Being synchronous they cannot
wait for anything but the database while a transaction is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from atolld.foundation.errors import InvalidArgument
from atolld.storage.migrate import migrate

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


class Database:
    """One database, opened by `Database.open` and given back by `close`.

    Writes of this process queue in order on one lock: SQLite has one writer anyway, and its own waiting is by polling,
    which under fifty writers at once is slow and unfair.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(atoll_write=True)
        self._turn = asyncio.Lock()

    @staticmethod
    async def open(url: str | Path, *, upgrade: bool = True) -> Database:
        """Connect to `url` (`sqlite:///file`, a path of an SQLite file, or `postgresql://...`) and bring its schema up
        to date.

        Raises InvalidArgument when `url` is not such an address, FailedPrecondition when the database was written by a
        newer version, or with `upgrade` False when it needs an upgrade.
        """
        engine = create_async_engine(_parse(url))
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        database = Database(engine)
        try:
            await migrate(engine, upgrade=upgrade)
        except BaseException:
            await engine.dispose()
            raise
        return database

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, and return its result."""
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction that is committed when it returns and undone when it raises."""
        async with self._turn, self._writer.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path) or "://" not in url:
        return URL.create(_DRIVERS["sqlite"], database=str(url))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"the database address is not a URL: {error}") from None
    driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in _DRIVERS.values():
        raise InvalidArgument(
            f"the database address begins with {parsed.drivername}://; use sqlite:///<file> or postgresql://..."
        )
    return parsed.set(drivername=driver)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # The driver must not open transactions by itself: it would open them without IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # In WAL mode a killed process loses nothing with NORMAL; only a power cut may lose the last moments, and
            # it ends the sandboxes they told of as well.
            "synchronous=NORMAL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock before the first read, so that a check and the write it guards are one step,
        # and no transaction fails half-way because another wrote first. Reads need no transaction: each is one query.
        if connection.get_execution_options().get("atoll_write"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
