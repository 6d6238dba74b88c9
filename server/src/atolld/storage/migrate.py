"""Brings the schema up to date when the daemon starts, and refuses a database that is newer than the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, inspect, text

from atolld.foundation.errors import FailedPrecondition

T = TypeVar("T")

HEAD = "0004"
KNOWN = ("0001", "0002", "0003", HEAD)
MIGRATIONS = Path(__file__).parent / "migrations"


class Transactions(Protocol):
    """The part of `Database` that migrations need."""

    def read(self, work: Callable[[Connection], T]) -> Awaitable[T]: ...

    def write(self, work: Callable[[Connection], T]) -> Awaitable[T]: ...


async def migrate(database: Transactions, *, upgrade: bool = True) -> None:
    """Run the missing migrations, in order, in one transaction.

    Raises FailedPrecondition when the database is newer than this code, or with `upgrade` False when it is older.
    """
    current = await database.read(_revision)
    if current == HEAD:
        return
    if current is not None and current not in KNOWN:
        raise FailedPrecondition(
            f"the database has schema revision {current}, which this version of Atoll does not know (it knows up to "
            f"{HEAD}): it was written by a newer version. Start that version, or use another state directory.",
            revision=current,
        )
    if not upgrade:
        raise FailedPrecondition(
            f"the database has schema revision {current or 'none'} and needs {HEAD}: "
            "start the daemon once to upgrade it"
        )
    await database.write(_upgrade)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row is not None else None


def _upgrade(connection: Connection) -> None:
    # Imported only here: it costs as much as SQLAlchemy itself, and nearly every start has nothing to upgrade.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
