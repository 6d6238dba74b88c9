from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.project import Project, ProjectLimits
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.foundation.errors import LimitExceeded, NotFound
from atolld.foundation.ids import ProjectId, TemplateId, new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes


def _new(project_id: ProjectId, cpu: float = 1.0, memory_mib: int = 512) -> Sandbox:
    spec = SandboxSpec(resources=Resources(cpu, memory_mib))
    return Sandbox(new_sandbox_id(), project_id, TemplateId("t"), "base", spec, SandboxState.CREATING, 1.0, "token")


@pytest.mark.parametrize(
    ("limits", "fits", "said"),
    [
        (ProjectLimits(), 20, ""),
        (ProjectLimits(max_sandboxes=3), 3, "3 sandboxes at once; it holds 3 and 1 more"),
        (ProjectLimits(max_sandboxes=0), 0, "0 sandboxes at once"),
        (ProjectLimits(max_cpu=0.3), 3, "0.3 CPUs"),
        (ProjectLimits(max_cpu=0.05), 0, "0.05 CPUs"),
        (ProjectLimits(max_memory_mib=1023), 1, "1023 MiB of memory; it holds 512 and 512 more"),
        (ProjectLimits(5, 100.0, 1024), 2, "MiB of memory"),
    ],
)
async def test_limits(database: Database, project: Project, limits: ProjectLimits, fits: int, said: str) -> None:
    await SqlProjects(database).set_limits(project.id, limits)
    store = SqlSandboxes(database)
    for _ in range(fits):
        await store.insert(_new(project.id, cpu=0.1))
    if said:
        with pytest.raises(LimitExceeded, match=said):
            await store.insert(_new(project.id, cpu=0.1))
    assert len(await store.live()) == fits


async def test_many_at_once_cannot_pass_a_limit(database: Database, project: Project) -> None:
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_sandboxes=3))
    store = SqlSandboxes(database)
    results = await asyncio.gather(*(store.insert(_new(project.id)) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 17
    assert len(await store.live()) == 3


async def test_two_daemons_on_one_database_cannot_pass_a_limit(url: str, database: Database, project: Project) -> None:
    from atolld.storage.database import open_database

    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_sandboxes=3))
    other = await open_database(url)
    stores = [SqlSandboxes(database), SqlSandboxes(other)]
    results = await asyncio.gather(*(stores[n % 2].insert(_new(project.id)) for n in range(20)), return_exceptions=True)
    await other.close()
    assert sum(isinstance(result, LimitExceeded) for result in results) == 17


async def test_what_is_stopping_still_counts_and_what_has_ended_does_not(database: Database, project: Project) -> None:
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_sandboxes=1))
    store = SqlSandboxes(database)
    first = _new(project.id)
    await store.insert(first)
    await store.mark_stopping(first.id, SandboxState.CREATING, EndReason.CREATE_FAILED, "")
    with pytest.raises(LimitExceeded):
        await store.insert(_new(project.id))
    await store.mark_ended(
        first.id,
        SandboxState.STOPPING,
        reason=EndReason.CREATE_FAILED,
        message="",
        ended_at=2.0,
        metered_until=2.0,
        event=None,
    )
    await store.insert(_new(project.id))


async def test_other_projects_do_not_count(database: Database, project: Project) -> None:
    other = await SqlProjects(database).ensure(Project(new_project_id(), "other"), 1.0)
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_sandboxes=1))
    store = SqlSandboxes(database)
    await store.insert(_new(other.id))
    await store.insert(_new(project.id))


async def test_no_project(database: Database) -> None:
    with pytest.raises(NotFound, match="no project"):
        await SqlSandboxes(database).insert(replace(_new(new_project_id())))
