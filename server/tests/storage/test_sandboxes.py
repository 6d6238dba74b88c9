from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from atolld.core.event import EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import Project
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import Conflict, FailedPrecondition, NotFound
from atolld.foundation.ids import new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.events import SqlEvents
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.store import Claim
from atolld.storage.usage import SqlUsage

from .making import STARTED, bring, dump, end, new_event, new_sandbox

S = SandboxState


async def test_what_is_stored_comes_back(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = replace(new_sandbox(project.id), spec=replace(new_sandbox(project.id).spec, envs={"SECRET": "hunter2"}))
    assert await store.insert(sandbox) == sandbox.id
    stored = replace(sandbox, spec=replace(sandbox.spec, envs={}))
    assert await store.get(project.id, sandbox.id) == stored
    await store.mark_running(sandbox.id, STARTED, new_event(sandbox))
    running = replace(
        stored,
        state=S.RUNNING,
        started_at=10.0,
        expires_at=310.0,
        address=STARTED.address,
        handle=STARTED.handle,
    )
    assert await store.get(project.id, sandbox.id) == running
    await store.mark_stopping(sandbox.id, S.RUNNING, EndReason.EXPIRED, "time")
    stopping = replace(running, state=S.STOPPING, end_reason=EndReason.EXPIRED, end_message="time")
    assert await store.get(project.id, sandbox.id) == stopping
    await end(store, sandbox, S.STOPPING)
    ended = await store.get(project.id, sandbox.id)
    assert (ended.state, ended.ended_at, ended.end_reason) == (S.ENDED, 110.0, EndReason.KILLED)
    assert (ended.agent_token, ended.address, ended.handle, ended.expires_at) == ("", None, None, None)


async def test_secrets_of_the_caller_are_nowhere_in_the_database(database: Database, project: Project) -> None:
    if database.dialect != "sqlite":
        pytest.skip("reads the file")
    sandbox = new_sandbox(project.id)
    await SqlSandboxes(database).insert(replace(sandbox, spec=replace(sandbox.spec, envs={"S": "hunter2-secret"})))
    dump = await database.read(lambda c: "".join(c.connection.driver_connection.iterdump()))  # type: ignore[union-attr]
    assert sandbox.id in dump
    assert "hunter2" not in dump


# Each verb, and the states it may be done in. Pausing, resuming and what belongs to them: `test_pausing.py`.
VERBS = {
    "running": [S.CREATING],
    "stop creating": [S.CREATING],
    "stop running": [S.RUNNING],
    "end running": [S.RUNNING],
    "end stopping": [S.STOPPING],
    "expiry": [S.FROZEN, S.RUNNING],
    "network": [S.FROZEN, S.RUNNING],
    "meter": [S.FROZEN, S.PAUSING, S.RUNNING],
    "discard": [S.CREATING],
}


async def _do(store: SqlSandboxes, verb: str, sandbox: Sandbox) -> None:
    event = new_event(sandbox, EventType.UPDATED)
    if verb == "running":
        await store.mark_running(sandbox.id, STARTED, event)
    elif verb.startswith("stop"):
        await store.mark_stopping(sandbox.id, S(verb.split()[1]), EndReason.EXPIRED, "again")
    elif verb.startswith("end"):
        await end(store, sandbox, S(verb.split()[1]))
    elif verb == "expiry":
        await store.set_expiry(sandbox.id, timeout_s=5, expires_at=1.0, event=event)
    elif verb == "network":
        await store.set_network(sandbox.id, network=NetworkPolicy(), traffic_token=None, event=event)
    elif verb == "meter":
        await store.meter(sandbox.id, 99.0)
    else:
        await store.discard(sandbox.id)


@pytest.mark.parametrize("verb", list(VERBS))
async def test_every_write_is_guarded(database: Database, project: Project, verb: str) -> None:
    store = SqlSandboxes(database)
    allowed = VERBS[verb]
    for state in S:
        sandbox = await bring(database, project.id, state)
        if state in allowed:
            await _do(store, verb, sandbox)
            continue
        before = await dump(database)
        with pytest.raises(Conflict, match=f"no longer {' or '.join(allowed)}: "):
            await _do(store, verb, sandbox)
        assert await dump(database) == before


@pytest.mark.parametrize("source", [S.CREATING, S.PAUSED, S.RESUMING, S.ENDED])
async def test_moves_the_table_does_not_know_never_reach_the_database(
    database: Database, project: Project, source: SandboxState
) -> None:
    with pytest.raises(FailedPrecondition):
        await end(SqlSandboxes(database), new_sandbox(project.id), source)


async def test_of_many_at_once_one_wins(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    tries = [store.mark_stopping(sandbox.id, S.RUNNING, EndReason.KILLED, str(n)) for n in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 9 + ["NoneType"]


async def test_changes_and_their_events(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    await store.set_expiry(sandbox.id, timeout_s=None, expires_at=None, event=new_event(sandbox, EventType.UPDATED))
    policy = NetworkPolicy(allow_out=("1.1.1.1/32",), allow_public_traffic=False)
    event = new_event(sandbox, EventType.UPDATED)
    await store.set_network(sandbox.id, network=policy, traffic_token="secret", event=event)
    row = await store.get(project.id, sandbox.id)
    assert (row.expires_at, row.spec.timeout_s, row.spec.network, row.traffic_token) == (None, None, policy, "secret")
    events = await SqlEvents(database).list(project.id, sandbox.id, 0, 100)
    assert [event.type for event in events] == [EventType.CREATED, EventType.UPDATED, EventType.UPDATED]


async def test_usage_is_what_was_granted_times_the_seconds(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    await store.meter(sandbox.id, 40.0)
    await store.meter(sandbox.id, 40.0)
    await store.seen(50.0)
    assert await store.last_seen(sandbox.id) == 50.0
    await end(store, sandbox, S.RUNNING, until=110.0)
    records = await SqlUsage(database).list(project.id, 0.0, 1e9)
    assert [(r.since, r.until, r.vcpu_s, r.memory_gib_s) for r in records] == [
        (10.0, 40.0, 15.0, 7.5),
        (40.0, 110.0, 35.0, 17.5),
    ]


async def test_live_are_all_that_have_not_ended(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    made = {state: await bring(database, project.id, state) for state in S}
    live = await store.live()
    assert {row.id for row in live} == {made[state].id for state in S if state is not S.ENDED}


async def test_last_seen_before_the_start(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.CREATING)
    await store.seen(50.0)
    assert await store.last_seen(sandbox.id) is None
    assert await store.last_seen(new_sandbox_id()) is None


async def test_another_project_does_not_see_it(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    with pytest.raises(NotFound):
        await store.get(new_project_id(), sandbox.id)


async def test_discard_leaves_nothing_and_frees_the_key(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    claim = Claim("k", "b", 0.0)
    sandbox, again = new_sandbox(project.id), new_sandbox(project.id)
    await store.insert(sandbox, claim)
    await store.discard(sandbox.id)
    for table in ("sandboxes", "sandbox_metadata", "idempotency"):
        query = text(f"SELECT count(*) FROM {table}")
        assert await database.read(lambda c, q=query: c.execute(q).scalar()) == 0  # type: ignore[misc]
    assert await store.insert(again, claim) == again.id


async def test_purge_takes_old_ended_ones_and_keeps_their_usage(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    old = await bring(database, project.id, S.ENDED)
    running = await bring(database, project.id, S.RUNNING)
    await store.insert(new_sandbox(project.id), Claim("old", "b", 0.0))
    assert await store.purge(ended_before=110.0, claims_before=5.0) == 0
    assert await store.purge(ended_before=110.5, claims_before=5.5) == 1
    with pytest.raises(NotFound):
        await store.get(project.id, old.id)
    assert (await store.get(project.id, running.id)).state is S.RUNNING
    assert {event.sandbox_id for event in await SqlEvents(database).list(project.id, None, 0, 100)} == {running.id}
    assert len(await SqlUsage(database).list(project.id, 0.0, 1e9)) == 1
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM idempotency")).scalar()) == 0
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM sandbox_metadata")).scalar()) == 4
