from __future__ import annotations

import pytest

from atolld.core.project import Project, ProjectLimits
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import new_project_id
from atolld.storage.database import Database
from atolld.storage.projects import SqlProjects


async def test_ensure_keeps_the_first(database: Database) -> None:
    store = SqlProjects(database)
    first = await store.ensure(Project(new_project_id(), "default", ProjectLimits(1, 2.5, 3)), 1.0)
    again = await store.ensure(Project(new_project_id(), "default"), 2.0)
    assert again == first == await store.get(first.id)
    other = await store.ensure(Project(new_project_id(), "another"), 2.0)
    assert await store.list() == [other, first]


@pytest.mark.parametrize(
    "limits", [ProjectLimits(5, 0.5, 2**31 - 1, 7, 2**31 - 1), ProjectLimits(), ProjectLimits(max_cpu=0)]
)
async def test_limits(database: Database, project: Project, limits: ProjectLimits) -> None:
    store = SqlProjects(database)
    assert (await store.set_limits(project.id, limits)).limits == limits
    assert (await store.get(project.id)).limits == limits


async def test_unknown(database: Database) -> None:
    store = SqlProjects(database)
    with pytest.raises(NotFound):
        await store.get(new_project_id())
    with pytest.raises(NotFound):
        await store.set_limits(new_project_id(), ProjectLimits())
