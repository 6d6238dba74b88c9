from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import Project
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.foundation.errors import Conflict, FailedPrecondition, NotFound
from atolld.foundation.ids import ProjectId, TemplateId, new_event_id, new_project_id, new_sandbox_id
from atolld.storage.database import Database
from atolld.storage.events import SqlEvents
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.store import Claim, Started
from atolld.storage.usage import SqlUsage

S = SandboxState
STARTED = Started(10.0, 310.0, "10.0.0.2", {"driver": {"version": 1}, "machine": {"slot": 7}})


def _new(project_id: ProjectId) -> Sandbox:
    spec = SandboxSpec(
        template="base",
        runtime="gvisor",
        resources=Resources(0.5, 256, 1024, 99),
        metadata={"k": 'v"\\', "é": ""},
        network=NetworkPolicy(internet=False, deny_out=("2606::/32",), mask_request_host="x:${PORT}"),
        secure=False,
    )
    return Sandbox(new_sandbox_id(), project_id, TemplateId("t1"), "base", spec, S.CREATING, 5.0, "token")


def _event(sandbox: Sandbox, type: EventType = EventType.CREATED) -> Event:
    return Event(new_event_id(), type, sandbox.project_id, sandbox.id, 1.0, {"n": [1, None, "x"]})


async def _end(store: SqlSandboxes, sandbox: Sandbox, source: SandboxState, until: float = 110.0) -> None:
    await store.mark_ended(
        sandbox.id,
        source,
        reason=EndReason.KILLED,
        message="bye",
        ended_at=until,
        metered_until=until,
        event=_event(sandbox, EventType.KILLED),
    )


async def _bring(store: SqlSandboxes, project_id: ProjectId, state: SandboxState) -> Sandbox:
    """A sandbox that has come to `state` by the usual way."""
    sandbox = _new(project_id)
    await store.insert(sandbox)
    if state is S.CREATING:
        return sandbox
    await store.mark_running(sandbox.id, STARTED, _event(sandbox))
    if state in (S.STOPPING, S.ENDED):
        await store.mark_stopping(sandbox.id, S.RUNNING, EndReason.KILLED, "bye")
    if state is S.ENDED:
        await _end(store, sandbox, S.STOPPING)
    return sandbox


async def test_what_is_stored_comes_back(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = replace(_new(project.id), spec=replace(_new(project.id).spec, envs={"SECRET": "hunter2"}))
    assert await store.insert(sandbox) == sandbox.id
    stored = replace(sandbox, spec=replace(sandbox.spec, envs={}))
    assert await store.get(project.id, sandbox.id) == stored
    await store.mark_running(sandbox.id, STARTED, _event(sandbox))
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
    await _end(store, sandbox, S.STOPPING)
    ended = await store.get(project.id, sandbox.id)
    assert (ended.state, ended.ended_at, ended.end_reason) == (S.ENDED, 110.0, EndReason.KILLED)
    assert (ended.agent_token, ended.address, ended.handle, ended.expires_at) == ("", None, None, None)


async def test_secrets_of_the_caller_are_nowhere_in_the_database(database: Database, project: Project) -> None:
    if database.dialect != "sqlite":
        pytest.skip("reads the file")
    sandbox = _new(project.id)
    await SqlSandboxes(database).insert(replace(sandbox, spec=replace(sandbox.spec, envs={"S": "hunter2-secret"})))
    dump = await database.read(lambda c: "".join(c.connection.driver_connection.iterdump()))  # type: ignore[union-attr]
    assert sandbox.id in dump
    assert "hunter2" not in dump


# Each verb, and the only state it may be done in.
VERBS = {
    "running": S.CREATING,
    "stop creating": S.CREATING,
    "stop running": S.RUNNING,
    "end running": S.RUNNING,
    "end stopping": S.STOPPING,
    "expiry": S.RUNNING,
    "network": S.RUNNING,
    "meter": S.RUNNING,
    "discard": S.CREATING,
}


async def _do(store: SqlSandboxes, verb: str, sandbox: Sandbox) -> None:
    event = _event(sandbox, EventType.UPDATED)
    if verb == "running":
        await store.mark_running(sandbox.id, STARTED, event)
    elif verb.startswith("stop"):
        await store.mark_stopping(sandbox.id, S(verb.split()[1]), EndReason.EXPIRED, "again")
    elif verb.startswith("end"):
        await _end(store, sandbox, S(verb.split()[1]))
    elif verb == "expiry":
        await store.set_expiry(sandbox.id, timeout_s=5, expires_at=1.0, event=event)
    elif verb == "network":
        await store.set_network(sandbox.id, network=NetworkPolicy(), traffic_token=None, event=event)
    elif verb == "meter":
        await store.meter(sandbox.id, 99.0)
    else:
        await store.discard(sandbox.id)


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("verb", list(VERBS))
async def test_every_write_is_guarded(database: Database, project: Project, verb: str, state: SandboxState) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, state)
    before = await store.get(project.id, sandbox.id)
    events = await SqlEvents(database).list(project.id, sandbox.id, 0, 100)
    if VERBS[verb] is state:
        await _do(store, verb, sandbox)
        return
    with pytest.raises(Conflict, match=f"no longer {VERBS[verb].value}"):
        await _do(store, verb, sandbox)
    assert await store.get(project.id, sandbox.id) == before
    assert await SqlEvents(database).list(project.id, sandbox.id, 0, 100) == events
    assert len(await SqlUsage(database).list(project.id, 0, 1e9)) == (1 if state is S.ENDED else 0)


@pytest.mark.parametrize("source", [S.CREATING, S.ENDED])
async def test_moves_the_table_does_not_know_never_reach_the_database(
    database: Database, project: Project, source: SandboxState
) -> None:
    with pytest.raises(FailedPrecondition):
        await _end(SqlSandboxes(database), _new(project.id), source)


async def test_of_many_at_once_one_wins(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, S.RUNNING)
    tries = [store.mark_stopping(sandbox.id, S.RUNNING, EndReason.KILLED, str(n)) for n in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 9 + ["NoneType"]


async def test_changes_and_their_events(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, S.RUNNING)
    await store.set_expiry(sandbox.id, timeout_s=None, expires_at=None, event=_event(sandbox, EventType.UPDATED))
    policy = NetworkPolicy(allow_out=("1.1.1.1/32",), allow_public_traffic=False)
    event = _event(sandbox, EventType.UPDATED)
    await store.set_network(sandbox.id, network=policy, traffic_token="secret", event=event)
    row = await store.get(project.id, sandbox.id)
    assert (row.expires_at, row.spec.timeout_s, row.spec.network, row.traffic_token) == (None, None, policy, "secret")
    events = await SqlEvents(database).list(project.id, sandbox.id, 0, 100)
    assert [event.type for event in events] == [EventType.CREATED, EventType.UPDATED, EventType.UPDATED]


async def test_usage_is_what_was_granted_times_the_seconds(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, S.RUNNING)
    await store.meter(sandbox.id, 40.0)
    await store.meter(sandbox.id, 40.0)
    await store.seen(50.0)
    assert await store.last_seen(sandbox.id) == 50.0
    await _end(store, sandbox, S.RUNNING, until=110.0)
    records = await SqlUsage(database).list(project.id, 0.0, 1e9)
    assert [(r.since, r.until, r.vcpu_s, r.memory_gib_s) for r in records] == [
        (10.0, 40.0, 15.0, 7.5),
        (40.0, 110.0, 35.0, 17.5),
    ]


async def test_live_are_all_that_have_not_ended(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    made = {state: await _bring(store, project.id, state) for state in S}
    live = await store.live()
    assert {row.id for row in live} == {made[state].id for state in S if state is not S.ENDED}


async def test_last_seen_before_the_start(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, S.CREATING)
    await store.seen(50.0)
    assert await store.last_seen(sandbox.id) is None
    assert await store.last_seen(new_sandbox_id()) is None


async def test_another_project_does_not_see_it(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await _bring(store, project.id, S.RUNNING)
    with pytest.raises(NotFound):
        await store.get(new_project_id(), sandbox.id)


async def test_discard_leaves_nothing_and_frees_the_key(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    claim = Claim("k", "b", 0.0)
    sandbox, again = _new(project.id), _new(project.id)
    await store.insert(sandbox, claim)
    await store.discard(sandbox.id)
    for table in ("sandboxes", "sandbox_metadata", "idempotency"):
        query = text(f"SELECT count(*) FROM {table}")
        assert await database.read(lambda c, q=query: c.execute(q).scalar()) == 0  # type: ignore[misc]
    assert await store.insert(again, claim) == again.id


async def test_purge_takes_old_ended_ones_and_keeps_their_usage(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    old = await _bring(store, project.id, S.ENDED)
    running = await _bring(store, project.id, S.RUNNING)
    await store.insert(_new(project.id), Claim("old", "b", 0.0))
    assert await store.purge(ended_before=110.0, claims_before=5.0) == 0
    assert await store.purge(ended_before=110.5, claims_before=5.5) == 1
    with pytest.raises(NotFound):
        await store.get(project.id, old.id)
    assert (await store.get(project.id, running.id)).state is S.RUNNING
    assert {event.sandbox_id for event in await SqlEvents(database).list(project.id, None, 0, 100)} == {running.id}
    assert len(await SqlUsage(database).list(project.id, 0.0, 1e9)) == 1
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM idempotency")).scalar()) == 0
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM sandbox_metadata")).scalar()) == 4
