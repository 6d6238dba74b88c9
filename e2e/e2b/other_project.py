"""A second project in a daemon's database, for trying that one does not see the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from atolld.control.keys import Keys
from atolld.core.project import Project
from atolld.foundation.clock import SystemClock
from atolld.foundation.ids import new_project_id
from atolld.storage.database import open_database
from atolld.storage.keys import SqlKeys
from atolld.storage.projects import SqlProjects

NAME = "other"


async def _make(state_dir: Path) -> str:
    database = await open_database(state_dir / "atoll.db", upgrade=False)
    try:
        clock = SystemClock()
        project = await SqlProjects(database).ensure(Project(new_project_id(), NAME), clock.now())
        _, secret = await Keys(SqlKeys(database), clock).create(project.id, NAME)
        return secret
    finally:
        await database.close()


def key_of_another_project(state_dir: Path) -> str:
    """The secret of a new key of the project "other" in the daemon whose state is in `state_dir`."""
    return asyncio.run(_make(state_dir))
