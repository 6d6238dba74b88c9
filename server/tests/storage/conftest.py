from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from atolld.core.project import Project
from atolld.foundation.ids import new_project_id
from atolld.storage.database import Database, open_database
from atolld.storage.projects import SqlProjects

POSTGRES = os.environ.get("ATOLL_TEST_POSTGRES_URL")


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.skipif(not POSTGRES, reason="ATOLL_TEST_POSTGRES_URL is not set")),
    ]
)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of an empty database, on each of the engines."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'atoll.db'}"
        return
    assert POSTGRES is not None
    server = make_url(POSTGRES).set(drivername="postgresql+asyncpg")
    name = f"atoll_{uuid.uuid4().hex}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
async def project(database: Database) -> Project:
    return await SqlProjects(database).ensure(Project(new_project_id(), "default"), 1.0)
