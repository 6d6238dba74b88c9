from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from atolld.foundation.aio import spawn
from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.storage.database import Database, open_database


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "http://localhost/", "postgresql+psycopg2://x/y", "://"]
)
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidArgument, match="database address"):
        await open_database(url)


async def test_a_path_is_an_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "odd ? # % name.db"
    database = await open_database(path)
    assert database.dialect == "sqlite"
    await database.close()
    assert path.exists()


async def test_sqlite_is_set_up_to_survive_a_killed_process(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "a.db")

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert await database.read(pragmas) == ["wal", 1, 1, 10_000]
    assert await database.write(pragmas) == ["wal", 1, 1, 10_000]
    await database.close()


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'half', 1)"))
        raise KeyError("half-way")

    with pytest.raises(KeyError):
        await database.write(broken)
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM projects")).scalar()) == 0


async def test_writes_run_one_after_another_in_order(database: Database) -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        seen.append(number)

    await asyncio.gather(*(database.write(lambda c, n=n: work(n)) for n in range(20)))  # type: ignore[misc]
    assert seen == [n for n in range(20) for _ in range(2)]


async def test_a_write_goes_on_although_its_caller_is_cancelled(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "a.db")
    started, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        started.set()
        go_on.wait(10)
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('1', 'first', 1)"))

    def queued(connection: Connection) -> None:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('2', 'second', 1)"))

    tasks = [spawn(database.write(slow), name="slow"), spawn(database.write(queued), name="queued")]
    await asyncio.to_thread(started.wait, 10)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    go_on.set()
    names = await database.write(lambda c: list(c.execute(text("SELECT name FROM projects ORDER BY id")).scalars()))
    assert names == ["first", "second"]
    await database.close()


async def test_reads_go_on_beside_a_long_write(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "a.db")
    go_on = threading.Event()
    writing = spawn(database.write(lambda c: go_on.wait(10)), name="writing")
    await asyncio.sleep(0)
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM projects")).scalar()) == 0
    go_on.set()
    assert await writing
    await database.close()


async def test_another_process_that_writes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = await open_database(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = spawn(database.write(lambda c: c.execute(text("DELETE FROM projects")).rowcount), name="writing")
    await asyncio.sleep(0)
    assert not writing.done()
    other.execute("COMMIT")
    other.close()
    assert await writing == 0
    await database.close()


async def test_only_one_daemon_at_a_time(url: str) -> None:
    first = await open_database(url, claim=True)
    with pytest.raises(FailedPrecondition, match="another daemon"):
        await open_database(url, claim=True)
    # Tools that make or revoke a key go on beside it.
    tool = await open_database(url)
    assert await tool.write(lambda c: c.execute(text("DELETE FROM projects")).rowcount) == 0
    await tool.close()
    await first.close()
    second = await open_database(url, claim=True)
    await second.close()
