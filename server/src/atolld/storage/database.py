"""The connection to the database: how transactions are opened, and nothing about what is in it.

Store verbs are plain functions of a SQLAlchemy `Connection`, run by `read` or `write`. Being synchronous they cannot
wait for anything but the database while a transaction is open, and the same verbs run on every kind of engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from atolld.foundation.errors import InvalidArgument, Unavailable
from atolld.storage.migrate import migrate
from atolld.storage.sqlite import SqliteDatabase

T = TypeVar("T")

_POSTGRES = frozenset({"postgresql", "postgres", "postgresql+asyncpg"})


class Database(Protocol):
    """One database, opened by `open_database` and given back by `close`."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, and return its result."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction that is committed when it returns and undone when it raises.

        Writes of one process run one after another, in the order of their calls. A write goes on although its caller
        is cancelled.
        """
        ...

    async def claim(self) -> None:
        """Hold the database for this process until it is closed; others may still read and write single things.

        Two daemons on one database would take each other's sandboxes for dead. Raises FailedPrecondition when another
        process has claimed it.
        """
        ...

    async def close(self) -> None:
        """Wait for what runs, then close every connection."""
        ...


async def open_database(url: str | Path, *, upgrade: bool = True, claim: bool = False) -> Database:
    """Connect to `url` (`sqlite:///file`, a path of an SQLite file, or `postgresql://...`) and bring its schema up
    to date. With `claim`, as a daemon must, for this process alone (see `Database.claim`).

    Raises InvalidArgument when `url` is not such an address, FailedPrecondition when the database was written by a
    newer version, is claimed by another process, or with `upgrade` False when it needs an upgrade; Unavailable without
    PostgreSQL's driver.
    """
    parsed = _parse(url)
    database: Database = SqliteDatabase(parsed) if parsed.drivername == "sqlite" else _postgres(parsed)
    try:
        if claim:
            await database.claim()
        await migrate(database, upgrade=upgrade)
    except BaseException:
        await database.close()
        raise
    return database


def _postgres(url: URL) -> Database:
    # Imported only when asked for: asynchronous engines cost a quarter of SQLAlchemy's import time.
    from atolld.storage.postgres import PostgresDatabase

    try:
        return PostgresDatabase(url)
    except ModuleNotFoundError as error:
        raise Unavailable(f"PostgreSQL needs the package {error.name}: pip install 'atolld[postgres]'") from None


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"the database address is not a URL: {error}") from None
    if parsed.drivername == "sqlite" and parsed.database and not parsed.database.startswith((":", "file:")):
        return parsed
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+asyncpg")
    raise InvalidArgument(
        f"the database address is {parsed.render_as_string()!r}; use sqlite:///<file> or postgresql://..."
    )
