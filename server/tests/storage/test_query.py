from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import SandboxState
from atolld.core.project import Project
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.ids import ProjectId, TemplateId, new_event_id, new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.store import SandboxQuery, Started

S = SandboxState


async def _add(
    store: SqlSandboxes, project_id: ProjectId, started_at: float | None, template: str = "base", **metadata: str
) -> str:
    sandbox = Sandbox(
        new_sandbox_id(),
        project_id,
        TemplateId(f"id-{template}"),
        template,
        SandboxSpec(template=template, metadata=metadata),
        S.CREATING,
        0.5 if started_at is not None else 99.0,
        "token",
    )
    await store.insert(sandbox)
    if started_at is not None:
        event = Event(new_event_id(), EventType.CREATED, project_id, sandbox.id, 1.0, {})
        await store.mark_running(sandbox.id, Started(started_at, None, "10.0.0.2", {}), event)
    return sandbox.id


async def _ids(store: SqlSandboxes, query: SandboxQuery) -> list[str]:
    return [listed.sandbox.id for listed in await store.list(query)]


async def test_filters(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    one = await _add(store, project.id, 1.0, run="7", who="a")
    two = await _add(store, project.id, 2.0, run="7", who="b")
    three = await _add(store, project.id, 3.0, template="other", run="8")
    four = await _add(store, project.id, None)
    all_ = SandboxQuery(project.id, order="asc")
    table = [
        (all_, [one, two, three, four]),
        (replace(all_, order="desc"), [four, three, two, one]),
        (replace(all_, states=frozenset({S.RUNNING})), [one, two, three]),
        (replace(all_, states=frozenset({S.CREATING, S.ENDED})), [four]),
        (replace(all_, metadata={"run": "7"}), [one, two]),
        (replace(all_, metadata={"run": "7", "who": "b"}), [two]),
        (replace(all_, metadata={"run": "8", "who": "b"}), []),
        (replace(all_, metadata={'x" OR 1=1 --': "%"}), []),
        (replace(all_, template="other"), [three]),
        (replace(all_, template="id-other"), [three]),
        (replace(all_, started_after=2.0), [three]),
        (replace(all_, started_after=1.5, metadata={"run": "7"}, template="base"), [two]),
        (replace(all_, limit=2), [one, two]),
        (SandboxQuery(new_project_id()), []),
    ]
    for query, expected in table:
        assert await _ids(store, query) == expected, query


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_whole_whatever_is_added_or_starts_at_the_same_moment(
    database: Database, project: Project, order: str
) -> None:
    store = SqlSandboxes(database)
    at_first = [await _add(store, project.id, 1.0 + n // 3) for n in range(10)]
    query = SandboxQuery(project.id, states=frozenset({S.RUNNING}), limit=3, order="asc" if order == "asc" else "desc")
    seen: list[str] = []
    while page := await store.list(query):
        seen += [listed.sandbox.id for listed in page]
        query = replace(query, after=page[-1].position)
        # Newcomers at both ends of the list.
        await _add(store, project.id, 0.1)
        if len(seen) < 10:
            await _add(store, project.id, 50.0)
        if len(seen) > 30:
            raise AssertionError("the walk does not end")
        if set(at_first) <= set(seen):
            break
    assert len(seen) == len(set(seen))
    assert set(at_first) <= set(seen)
