from __future__ import annotations

import asyncio

import pytest

from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.project import Project, ProjectLimits
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.errors import Conflict, LimitExceeded
from atolld.foundation.ids import ProjectId, TemplateId, new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.store import Claim

DAY_S = 86_400.0


def _new(project_id: ProjectId, at: float = 100.0) -> Sandbox:
    return Sandbox(
        new_sandbox_id(), project_id, TemplateId("t"), "base", SandboxSpec(), SandboxState.CREATING, at, "token"
    )


async def test_the_same_request_makes_one(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    ids = await asyncio.gather(*(store.insert(_new(project.id), Claim("k", "body", 0.0)) for _ in range(5)))
    assert len(set(ids)) == 1
    assert [row.id for row in await store.live()] == [ids[0]]


async def test_another_body_is_a_conflict(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    await store.insert(_new(project.id), Claim("k", "body", 0.0))
    with pytest.raises(Conflict, match="'k' was used before for a different request"):
        await store.insert(_new(project.id), Claim("k", "other", 0.0))
    assert len(await store.live()) == 1


async def test_keys_belong_to_a_project(database: Database, project: Project) -> None:
    other = await SqlProjects(database).ensure(Project(new_project_id(), "other"), 1.0)
    store = SqlSandboxes(database)
    first = await store.insert(_new(project.id), Claim("k", "body", 0.0))
    second = await store.insert(_new(other.id), Claim("k", "else", 0.0))
    assert first != second


@pytest.mark.parametrize(("age_s", "same"), [(DAY_S - 1, True), (DAY_S + 1, False)])
async def test_a_key_is_kept_for_its_time(database: Database, project: Project, age_s: float, same: bool) -> None:
    store = SqlSandboxes(database)
    first = await store.insert(_new(project.id, 100.0), Claim("k", "body", 100.0 - DAY_S))
    later = 100.0 + age_s
    again = await store.insert(_new(project.id, later), Claim("k", "body" if same else "new", later - DAY_S))
    assert (again == first) is same


async def test_a_refused_insert_uses_no_key(database: Database, project: Project) -> None:
    projects, store = SqlProjects(database), SqlSandboxes(database)
    await projects.set_limits(project.id, ProjectLimits(max_sandboxes=0))
    claim = Claim("k", "body", 0.0)
    with pytest.raises(LimitExceeded):
        await store.insert(_new(project.id), claim)
    await projects.set_limits(project.id, ProjectLimits())
    sandbox = _new(project.id)
    assert await store.insert(sandbox, Claim("k", "another", 0.0)) == sandbox.id


@pytest.mark.parametrize(("reason", "free"), [(EndReason.CREATE_FAILED, True), (EndReason.KILLED, False)])
async def test_a_failed_create_frees_the_key(
    database: Database, project: Project, reason: EndReason, free: bool
) -> None:
    store = SqlSandboxes(database)
    claim = Claim("k", "body", 0.0)
    first = await store.insert(_new(project.id), claim)
    await store.mark_stopping(first, SandboxState.CREATING, reason, "")
    await store.mark_ended(
        first, SandboxState.STOPPING, reason=reason, message="", ended_at=2.0, metered_until=2.0, event=None
    )
    again = await store.insert(_new(project.id), claim)
    assert (again != first) is free
