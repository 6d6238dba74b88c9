from __future__ import annotations

import math

import pytest

from atolld.control.testing import World
from atolld.core.project import ProjectLimits
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import new_project_id


async def test_default_is_made_once(world: World) -> None:
    assert await world.projects.ensure_default() == world.project == await world.projects.get(world.project.id)
    assert await world.projects.list() == [world.project]
    assert world.project.limits == ProjectLimits()


async def test_limits_are_kept(world: World) -> None:
    limits = ProjectLimits(3, 1.5, 1024)
    assert (await world.projects.set_limits(world.project.id, limits)).limits == limits
    assert (await world.projects.ensure_default()).limits == limits


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (ProjectLimits(max_sandboxes=-1), "max_sandboxes"),
        (ProjectLimits(max_sandboxes=2**31), "max_sandboxes"),
        (ProjectLimits(max_cpu=math.nan), "max_cpu"),
        (ProjectLimits(max_cpu=math.inf), "max_cpu"),
        (ProjectLimits(max_memory_mib=-5), "max_memory_mib"),
        (ProjectLimits(max_snapshots=-1), "max_snapshots"),
        (ProjectLimits(max_saved_mib=2**31), "max_saved_mib"),
    ],
)
async def test_bad_limits(world: World, limits: ProjectLimits, name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        await world.projects.set_limits(world.project.id, limits)


async def test_unknown(world: World) -> None:
    with pytest.raises(NotFound):
        await world.projects.get(new_project_id())
    with pytest.raises(NotFound):
        await world.projects.set_limits(new_project_id(), ProjectLimits())
