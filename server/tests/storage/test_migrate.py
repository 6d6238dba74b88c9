from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from atolld.core.lifecycle import SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy
from atolld.core.project import ProjectLimits
from atolld.core.snapshot import SnapshotState
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.ids import SnapshotId
from atolld.storage.database import Database, open_database
from atolld.storage.migrate import HEAD, KNOWN, MIGRATIONS
from atolld.storage.pools import SqlPools
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.schema import metadata
from atolld.storage.snapshots import SqlSnapshots

from .making import build_up, new_sandbox, new_template, pause, resume


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


async def test_the_network_policies_of_0001_are_kept(url: str) -> None:
    def fill(connection: Connection) -> None:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'default', 1)"))
        for id, internet in (("on", "true"), ("off", "false")):
            connection.execute(
                text(
                    "INSERT INTO sandboxes (id, project_id, template_id, template_name, runtime, cpu, memory_mib, "
                    "disk_mib, pids_max, metadata, internet, state, agent_token, created_at, listed_at) VALUES "
                    f"('{id}', 'p', 't', 't', 'gvisor', 1, 1, 1, 1, '{{}}', {internet}, 'running', 'x', 1, 1)"
                )
            )
            connection.execute(text(f"INSERT INTO sandbox_metadata VALUES ('{id}', 'k', 'v')"))

    await _at(url, "0001", fill)
    database = await open_database(url)
    policies = {row.id: row.spec for row in await SqlSandboxes(database).live()}
    assert {id: (spec.network, spec.secure) for id, spec in policies.items()} == {
        "on": (NetworkPolicy(), True),
        "off": (NetworkPolicy(internet=False), True),
    }
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM sandbox_metadata")).scalar()) == 2
    await database.close()


async def test_what_ran_under_0002_goes_on(url: str) -> None:
    def fill(connection: Connection) -> None:
        for statement in (
            "INSERT INTO projects (id, name, max_sandboxes, created_at) VALUES ('p', 'default', 5, 1)",
            "INSERT INTO sandboxes (id, project_id, template_id, template_name, runtime, cpu, memory_mib, disk_mib, "
            "pids_max, metadata, network, secure, state, agent_token, traffic_token, created_at, listed_at, "
            "started_at, metered_until) VALUES ('i', 'p', 't', 't', 'gvisor', 1, 1, 1, 1, '{\"k\": \"v\"}', "
            "'{\"internet\": false}', false, 'running', 'x', 'y', 1, 1, 1, 1)",
            "INSERT INTO sandbox_metadata VALUES ('i', 'k', 'v')",
        ):
            connection.exec_driver_sql(statement)

    await _at(url, "0002", fill)
    database = await open_database(url)
    store, projects = SqlSandboxes(database), SqlProjects(database)
    (row,) = await store.live()
    assert (row.spec.network, row.spec.secure, row.traffic_token) == (NetworkPolicy(internet=False), False, "y")
    assert row.spec.lifecycle == LifecyclePolicy()
    assert (row.save_id, row.pending_save_id, row.head_id, row.paused_at) == (None, None, None, None)
    assert [project.limits for project in await projects.list()] == [ProjectLimits(max_sandboxes=5)]
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM sandbox_metadata")).scalar()) == 1
    await pause(database, row)
    await resume(database, row)
    assert (await store.get(row.project_id, row.id)).state is SandboxState.RUNNING
    await database.close()


async def test_what_was_saved_under_0003_stays(url: str) -> None:
    bounds = "'gvisor', 1, 1, 1, 1"

    def fill(connection: Connection) -> None:
        for statement in (
            "INSERT INTO projects (id, name, created_at) VALUES ('p', 'default', 1)",
            "INSERT INTO sandboxes (id, project_id, template_id, template_name, runtime, cpu, memory_mib, disk_mib, "
            "pids_max, metadata, secure, state, agent_token, created_at, listed_at, save_id) VALUES "
            f"('i', 'p', 't', 'debian:12', {bounds}, '{{}}', true, 'paused', 'x', 1, 1, 's')",
            "INSERT INTO snapshots (id, project_id, sandbox_id, role, state, kind, template_id, template_name, "
            "runtime, cpu, memory_mib, disk_mib, pids_max, agent_token, secure, created_at, engine, memory_bytes, "
            "disk_bytes, stopped_s, layers) VALUES ('s', 'p', 'i', 'pause', 'ready', 'memory', 't', 'debian:12', "
            f"{bounds}, 'x', true, 1, 'gvisor 1', 1, 1, 0.1, '[\"aa\"]')",
            "INSERT INTO pools (id, project_id, template, runtime, cpu, memory_mib, disk_mib, pids_max, ready, "
            f"created_at) VALUES ('q', 'p', 'base', {bounds}, 2, 1)",
        ):
            connection.exec_driver_sql(statement)

    await _at(url, "0003", fill)
    database = await open_database(url)
    (row,) = await SqlSandboxes(database).live()
    save = await SqlSnapshots(database).find(SnapshotId("s"))
    assert save is not None
    assert (row.build_id, row.save_id, save.build_id, save.state) == (None, "s", None, SnapshotState.READY)
    assert [pool.ready for pool in await SqlPools(database).list(None)] == [2]
    # Longer than 0003 had room for.
    long = replace(new_sandbox(row.project_id), template_name="registry.example/" + "a" * 500)
    await SqlSandboxes(database).insert(long)
    assert (await SqlSandboxes(database).get(row.project_id, long.id)).template_name == long.template_name
    await build_up(database, new_template(row.project_id))
    await database.close()


async def _at(url: str, revision: str, fill: Callable[[Connection], None]) -> None:
    """Leave a database as an older version did, with what `fill` writes."""

    def make(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        fill(connection)

    old = await _blank(url)
    await old.write(make)
    await old.close()


async def _blank(url: str) -> Database:
    from sqlalchemy.engine import make_url

    from atolld.storage.postgres import PostgresDatabase
    from atolld.storage.sqlite import SqliteDatabase

    parsed = make_url(url)
    return SqliteDatabase(parsed) if parsed.drivername == "sqlite" else PostgresDatabase(parsed)
