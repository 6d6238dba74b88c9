from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from atolld.foundation.errors import FailedPrecondition
from atolld.storage.database import Database, open_database
from atolld.storage.migrate import HEAD, KNOWN, MIGRATIONS
from atolld.storage.schema import metadata


def test_the_code_knows_every_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    assert {script.revision for script in scripts.walk_revisions()} == set(KNOWN)


async def test_migrations_make_what_the_code_expects(database: Database) -> None:
    def differences(connection: Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    assert await database.read(differences) == []


async def test_an_up_to_date_database_is_opened_as_it_is(url: str, database: Database) -> None:
    again = await open_database(url, upgrade=False)
    await again.close()


async def test_a_newer_database_is_refused(url: str, database: Database) -> None:
    await database.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(FailedPrecondition, match="schema revision 9999.*newer version"):
        await open_database(url)


async def test_an_empty_database_is_not_upgraded_unasked(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="start the daemon once"):
        await open_database(url, upgrade=False)


async def test_an_interrupted_upgrade_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A table in the way makes the migration fail after it has made others.
    blank = await _blank(url)
    await blank.write(lambda c: c.execute(text("CREATE TABLE usage (x INTEGER)")))
    await blank.close()
    with pytest.raises(Exception, match="already exists"):
        await open_database(url)
    blank = await _blank(url)
    await blank.write(lambda c: c.execute(text("DROP TABLE usage")))
    await blank.close()
    database = await open_database(url)
    await database.close()


async def _blank(url: str) -> Database:
    from sqlalchemy.engine import make_url

    from atolld.storage.postgres import PostgresDatabase
    from atolld.storage.sqlite import SqliteDatabase

    parsed = make_url(url)
    return SqliteDatabase(parsed) if parsed.drivername == "sqlite" else PostgresDatabase(parsed)
