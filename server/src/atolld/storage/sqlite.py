"""SQLite in WAL mode: one thread that writes, a few that read beside it.

A whole transaction is one trip to a thread. An asynchronous driver makes several trips a statement; with it the two
transactions of a create were measured at three times as long.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from atolld.storage.lock import FileLock

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
_READERS = 4


class SqliteDatabase:
    """Implements `Database` on one file."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_size=_READERS + 1)
        _prepare(self._engine)
        self._write_engine = self._engine.execution_options(atoll_write=True)
        self._lock = FileLock(Path(f"{url.database}.lock"), f"the database {url.database}")
        self._writer = ThreadPoolExecutor(1, "atolld-db-write")
        self._readers = ThreadPoolExecutor(_READERS, "atolld-db-read")

    @property
    def dialect(self) -> str:
        """`sqlite`."""
        return "sqlite"

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database.read`."""

        def run() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """See `Database.write`."""

        def run() -> T:
            with self._write_engine.begin() as connection:
                return work(connection)

        # Shielded, for a cancelled caller would take a write that still queues out of the queue.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, run))

    async def claim(self) -> None:
        """See `Database.claim`."""
        self._lock.acquire()

    async def close(self) -> None:
        """See `Database.close`."""

        def close() -> None:
            self._writer.shutdown()
            self._readers.shutdown()
            self._engine.dispose()
            self._lock.release()

        await asyncio.to_thread(close)


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not open transactions by itself: it would open them without IMMEDIATE.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            # In WAL mode a killed process loses nothing with NORMAL; only a power cut may lose the last moments, and
            # it ends the sandboxes they told of as well.
            "synchronous=NORMAL",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock before the first read, so that a check and the write it guards are one step,
        # and no transaction fails half-way because another process wrote first. A read is one query and needs none.
        if connection.get_execution_options().get("atoll_write"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
