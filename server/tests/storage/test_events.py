from __future__ import annotations

import asyncio

from sqlalchemy import text

from atolld.core.event import Event, EventType
from atolld.core.project import Project
from atolld.foundation.ids import SandboxId, new_event_id, new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.events import SqlEvents, append_event


async def _append(database: Database, project: Project, sandbox_id: SandboxId, n: int) -> None:
    event = Event(new_event_id(), EventType.UPDATED, project.id, sandbox_id, float(n), {"n": n, "é": None})
    await database.write(lambda c: append_event(c, event))


async def test_order_and_filters(database: Database, project: Project) -> None:
    store = SqlEvents(database)
    a, b = new_sandbox_id(), new_sandbox_id()
    await asyncio.gather(*(_append(database, project, a if n % 2 else b, n) for n in range(10)))
    all_ = await store.list(project.id, None, 0, 100)
    assert [event.data["n"] for event in all_] == list(range(10))
    assert all_[0].data == {"n": 0, "é": None}
    assert [event.sequence for event in all_] == sorted({event.sequence for event in all_})
    assert [event.data["n"] for event in await store.list(project.id, a, 0, 100)] == [1, 3, 5, 7, 9]
    assert await store.list(project.id, None, all_[3].sequence, 2) == all_[4:6]
    assert await store.list(project.id, None, all_[-1].sequence, 100) == []
    assert await store.list(new_project_id(), None, 0, 100) == []


async def test_a_sequence_is_never_given_twice(database: Database, project: Project) -> None:
    store = SqlEvents(database)
    for n in range(3):
        await _append(database, project, new_sandbox_id(), n)
    last = (await store.list(project.id, None, 0, 100))[-1].sequence
    await database.write(lambda c: c.execute(text("DELETE FROM events")))
    await _append(database, project, new_sandbox_id(), 9)
    assert (await store.list(project.id, None, 0, 100))[0].sequence > last
