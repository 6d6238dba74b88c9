from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from atolld.core.event import EventType
from atolld.core.lifecycle import TRANSITIONS, Action, EndReason, SandboxState
from atolld.core.policy import LifecyclePolicy, OnIdle
from atolld.core.project import Project, ProjectLimits
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.errors import Conflict, FailedPrecondition, LimitExceeded
from atolld.foundation.ids import SnapshotId, new_project_id, new_snapshot_id
from atolld.storage.database import Database
from atolld.storage.events import SqlEvents
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.store import Claim
from atolld.storage.usage import SqlUsage

from .making import MIB, SAVED, STARTED, S, bring, dump, end, new_event, new_sandbox, new_snapshot, pause, resume, take

DELETING, READY = SnapshotState.DELETING, SnapshotState.READY
HALF_CPU_SECONDS = 0.5


@dataclass
class Case:
    """A verb on a sandbox, with a ready snapshot at hand."""

    store: SqlSandboxes
    sandbox: Sandbox
    kept: SnapshotId


Verb = Callable[[Case], Awaitable[None]]

# Each verb, its action, and the source it is tried with; the guard must hold in every other state.
VERBS: dict[str, tuple[Action, SandboxState, Verb]] = {
    "freeze": (Action.FREEZE, S.RUNNING, lambda c: c.store.mark_frozen(c.sandbox.id, new_event(c.sandbox))),
    "thaw": (Action.THAW, S.FROZEN, lambda c: c.store.mark_thawed(c.sandbox.id, new_event(c.sandbox))),
    "pause running": (
        Action.PAUSE,
        S.RUNNING,
        lambda c: c.store.mark_pausing(c.sandbox.id, S.RUNNING, new_snapshot(c.sandbox, SnapshotRole.PAUSE)),
    ),
    "pause frozen": (
        Action.PAUSE,
        S.FROZEN,
        lambda c: c.store.mark_pausing(c.sandbox.id, S.FROZEN, new_snapshot(c.sandbox, SnapshotRole.PAUSE)),
    ),
    "paused": (
        Action.PAUSED,
        S.PAUSING,
        lambda c: c.store.mark_paused(c.sandbox.id, SAVED, 50.0, new_event(c.sandbox)),
    ),
    "go on": (Action.GO_ON, S.PAUSING, lambda c: c.store.mark_going_on(c.sandbox.id, new_event(c.sandbox))),
    "resume": (Action.RESUME, S.PAUSED, lambda c: c.store.mark_resuming(c.sandbox.id, S.PAUSED, None, 60.0)),
    "roll back running": (
        Action.ROLLBACK,
        S.RUNNING,
        lambda c: c.store.mark_resuming(c.sandbox.id, S.RUNNING, c.kept, 60.0),
    ),
    "roll back frozen": (
        Action.ROLLBACK,
        S.FROZEN,
        lambda c: c.store.mark_resuming(c.sandbox.id, S.FROZEN, c.kept, 60.0),
    ),
    "roll back paused": (
        Action.ROLLBACK,
        S.PAUSED,
        lambda c: c.store.mark_resuming(c.sandbox.id, S.PAUSED, c.kept, 60.0),
    ),
    "resumed": (
        Action.STARTED,
        S.RESUMING,
        lambda c: c.store.mark_resumed(c.sandbox.id, STARTED, new_event(c.sandbox)),
    ),
    "give back": (Action.GIVE_BACK, S.RESUMING, lambda c: c.store.mark_given_back(c.sandbox.id, 70.0)),
    "stop frozen": (
        Action.STOP,
        S.FROZEN,
        lambda c: c.store.mark_stopping(c.sandbox.id, S.FROZEN, EndReason.EXPIRED, ""),
    ),
    "stop pausing": (
        Action.STOP,
        S.PAUSING,
        lambda c: c.store.mark_stopping(c.sandbox.id, S.PAUSING, EndReason.EXPIRED, ""),
    ),
    "stop paused": (
        Action.STOP,
        S.PAUSED,
        lambda c: c.store.mark_stopping(c.sandbox.id, S.PAUSED, EndReason.EXPIRED, ""),
    ),
    "stop resuming": (
        Action.STOP,
        S.RESUMING,
        lambda c: c.store.mark_stopping(c.sandbox.id, S.RESUMING, EndReason.EXPIRED, ""),
    ),
    "end frozen": (Action.ENDED, S.FROZEN, lambda c: end(c.store, c.sandbox, S.FROZEN)),
    "end pausing": (Action.ENDED, S.PAUSING, lambda c: end(c.store, c.sandbox, S.PAUSING)),
}


def test_every_move_of_the_table_has_a_case() -> None:
    elsewhere = {  # test_sandboxes.py; nobody writes FAIL, for a failed create is stopped.
        (S.CREATING, Action.STARTED),
        (S.CREATING, Action.FAIL),
        (S.CREATING, Action.STOP),
        (S.RUNNING, Action.STOP),
        (S.RUNNING, Action.ENDED),
        (S.STOPPING, Action.ENDED),
    }
    assert {(source, action) for action, source, _ in VERBS.values()} | elsewhere == set(TRANSITIONS)


@pytest.mark.parametrize("name", list(VERBS))
async def test_refused_from_a_wrong_state_nothing_is_written(database: Database, project: Project, name: str) -> None:
    action, source, verb = VERBS[name]
    store = SqlSandboxes(database)
    kept = await take(database, await bring(database, project.id, S.ENDED))
    for state in S:
        case = Case(store, await bring(database, project.id, state), kept)
        if state is source:
            await verb(case)
            row = await store.get(project.id, case.sandbox.id)
            assert row.state is TRANSITIONS[source, action]
            continue
        before = await dump(database)
        with pytest.raises(Conflict, match=f"no longer {source.value}"):
            await verb(case)
        assert await dump(database) == before


@pytest.mark.parametrize(
    ("source", "save_id"),
    [(S.RUNNING, None), (S.FROZEN, None), (S.PAUSING, "s"), (S.CREATING, "s"), (S.STOPPING, None), (S.ENDED, "s")],
)
async def test_moves_the_table_does_not_know(
    database: Database, project: Project, source: SandboxState, save_id: str | None
) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, source)
    before = await dump(database)
    with pytest.raises(FailedPrecondition):
        await store.mark_resuming(sandbox.id, source, None if save_id is None else SnapshotId(save_id), 60.0)
    assert await dump(database) == before


async def test_a_pause_and_a_resume(database: Database, project: Project) -> None:
    store, saves = SqlSandboxes(database), SqlSnapshots(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    running = await store.get(project.id, sandbox.id)
    save = new_snapshot(sandbox, SnapshotRole.PAUSE)
    await store.mark_pausing(sandbox.id, S.RUNNING, save)
    assert await store.get(project.id, sandbox.id) == replace(running, state=S.PAUSING, pending_save_id=save.id)
    assert await saves.find(save.id) == save
    await store.mark_paused(sandbox.id, SAVED, 50.0, new_event(sandbox, EventType.PAUSED))
    paused = replace(running, state=S.PAUSED, save_id=save.id, paused_at=50.0, address=None, expires_at=None)
    assert await store.get(project.id, sandbox.id) == paused
    assert await saves.find(save.id) == replace(save, state=READY, saved=SAVED)
    await store.mark_resuming(sandbox.id, S.PAUSED, None, 60.0)
    assert await store.get(project.id, sandbox.id) == replace(paused, state=S.RESUMING)
    await store.mark_given_back(sandbox.id, 61.0)
    assert await store.get(project.id, sandbox.id) == replace(paused, paused_at=61.0)
    await store.mark_resuming(sandbox.id, S.PAUSED, None, 62.0)
    again = replace(STARTED, started_at=63.0, expires_at=363.0, address="10.0.0.9", handle={"machine": {"slot": 9}})
    await store.mark_resumed(sandbox.id, again, new_event(sandbox, EventType.RESUMED))
    assert await store.get(project.id, sandbox.id) == replace(
        running, save_id=save.id, head_id=save.id, expires_at=363.0, address="10.0.0.9", handle=again.handle
    )
    types = [event.type for event in await SqlEvents(database).list(project.id, sandbox.id, 0, 100)]
    assert types == [EventType.CREATED, EventType.PAUSED, EventType.RESUMED]


async def test_usage_counts_what_runs_is_frozen_or_is_being_saved(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    await store.mark_frozen(sandbox.id, new_event(sandbox))
    await store.meter(sandbox.id, 30.0)
    await store.mark_pausing(sandbox.id, S.FROZEN, new_snapshot(sandbox, SnapshotRole.PAUSE))
    await store.seen(40.0)
    assert await store.last_seen(sandbox.id) == 40.0
    await store.mark_paused(sandbox.id, SAVED, 50.0, new_event(sandbox))
    await store.seen(70.0)
    assert await store.last_seen(sandbox.id) == 50.0
    await store.mark_resuming(sandbox.id, S.PAUSED, None, 80.0)
    await store.mark_given_back(sandbox.id, 85.0)
    await resume(database, sandbox, at=90.0)
    kept = await take(database, sandbox)
    await store.mark_resuming(sandbox.id, S.RUNNING, kept, 100.0)
    await store.mark_resumed(sandbox.id, replace(STARTED, started_at=105.0), new_event(sandbox))
    await end(store, sandbox, S.RUNNING, until=110.0)
    records = await SqlUsage(database).list(project.id, 0.0, 1e9)
    spans = [(10.0, 30.0), (30.0, 50.0), (90.0, 100.0), (105.0, 110.0)]
    assert [(r.since, r.until) for r in records] == spans
    assert [r.vcpu_s for r in records] == [(until - since) * HALF_CPU_SECONDS for since, until in spans]


async def test_a_paused_one_that_ends_has_no_more_usage(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.PAUSED)
    await store.mark_stopping(sandbox.id, S.PAUSED, EndReason.KILLED, "")
    await end(store, sandbox, S.STOPPING, until=500.0)
    assert [(r.since, r.until) for r in await SqlUsage(database).list(project.id, 0.0, 1e9)] == [(10.0, 50.0)]


async def test_a_save_goes_when_the_next_pause_is_whole(database: Database, project: Project) -> None:
    store, saves = SqlSandboxes(database), SqlSnapshots(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    first = await pause(database, sandbox)
    await resume(database, sandbox)
    await store.mark_pausing(sandbox.id, S.RUNNING, new_snapshot(sandbox, SnapshotRole.PAUSE))
    assert await saves.removable() == []
    await store.mark_going_on(sandbox.id, None)
    assert await _state(database, first) is READY
    second = await pause(database, sandbox)
    assert (await _state(database, first), await _state(database, second)) == (DELETING, READY)
    row = await store.get(project.id, sandbox.id)
    assert (row.save_id, row.head_id) == (second, first)


async def test_a_save_that_failed_goes(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    save = new_snapshot(sandbox, SnapshotRole.PAUSE)
    await store.mark_pausing(sandbox.id, S.RUNNING, save)
    await store.mark_going_on(sandbox.id, new_event(sandbox, EventType.PAUSE_FAILED))
    row = await store.get(project.id, sandbox.id)
    assert (row.state, row.pending_save_id, row.save_id) == (S.RUNNING, None, None)
    assert await SqlSnapshots(database).removable() == [save.id]


async def test_rolling_back_lets_the_own_save_go_and_never_what_a_user_keeps(
    database: Database, project: Project
) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    one, two = await take(database, sandbox), await take(database, sandbox)
    own = await pause(database, sandbox)
    await resume(database, sandbox, S.PAUSED, one)
    assert await _state(database, own) is DELETING
    await resume(database, sandbox, S.RUNNING, two)
    assert (await _state(database, one), await _state(database, two)) == (READY, READY)
    row = await store.get(project.id, sandbox.id)
    assert (row.state, row.save_id, row.head_id) == (S.RUNNING, two, two)
    await end(store, sandbox, S.RUNNING)
    assert (await _state(database, one), await _state(database, two)) == (READY, READY)


async def test_a_save_that_another_one_resumes_from_stays(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    owner = await bring(database, project.id, S.RUNNING)
    save = await pause(database, owner)
    other = await bring(database, project.id, S.RUNNING)
    await resume(database, other, S.RUNNING, save)
    # The other one's next pause does not take the save of the owner, which is all that it has.
    await pause(database, other)
    assert await _state(database, save) is READY
    await resume(database, other, S.PAUSED, save)
    await store.mark_stopping(owner.id, S.PAUSED, EndReason.KILLED, "")
    await end(store, owner, S.STOPPING)
    assert await _state(database, save) is READY
    await end(store, other, S.RUNNING)
    assert await _state(database, save) is DELETING


@pytest.mark.parametrize("source", [S.PAUSED, S.PAUSING, S.RESUMING])
async def test_the_end_takes_the_own_saves(database: Database, project: Project, source: SandboxState) -> None:
    store, saves = SqlSandboxes(database), SqlSnapshots(database)
    sandbox = await bring(database, project.id, source)
    row = await store.get(project.id, sandbox.id)
    own = [id for id in (row.save_id, row.pending_save_id) if id is not None]
    await store.mark_stopping(sandbox.id, source, EndReason.KILLED, "")
    assert await saves.removable() == [] and len(own) == 1
    await end(store, sandbox, S.STOPPING)
    assert await saves.removable() == own
    row = await store.get(project.id, sandbox.id)
    assert (row.save_id, row.pending_save_id, row.paused_at) == (None, None, None)


@pytest.mark.parametrize("what", ["unknown", "half", "deleting", "another project's"])
async def test_rolled_back_only_to_what_is_there(database: Database, project: Project, what: str) -> None:
    saves = SqlSnapshots(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    snapshot = new_snapshot(sandbox)
    if what == "unknown":
        snapshot = replace(snapshot, id=new_snapshot_id())
    elif what == "half":
        await saves.insert(snapshot)
    elif what == "deleting":
        snapshot = replace(snapshot, id=await take(database, sandbox))
        await saves.mark_deleting(snapshot.id)
    else:
        other = await SqlProjects(database).ensure(Project(new_project_id(), "other"), 1.0)
        snapshot = replace(snapshot, id=await take(database, await bring(database, other.id, S.RUNNING)))
    before = await dump(database)
    with pytest.raises(Conflict, match=snapshot.id):
        await SqlSandboxes(database).mark_resuming(sandbox.id, S.RUNNING, snapshot.id, 60.0)
    assert await dump(database) == before


async def test_a_paused_one_holds_no_cpu_and_is_admitted_again(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    paused = await bring(database, project.id, S.PAUSED)
    kept = await take(database, paused)
    for limits in (ProjectLimits(max_sandboxes=1), ProjectLimits(max_cpu=0.5), ProjectLimits(max_memory_mib=256)):
        await SqlProjects(database).set_limits(project.id, limits)
        other = await bring(database, project.id, S.FROZEN)
        before = await dump(database)
        for save_id in (None, kept):
            with pytest.raises(LimitExceeded, match="the project may hold"):
                await store.mark_resuming(paused.id, S.PAUSED, save_id, 60.0)
        assert await dump(database) == before
        # One that runs is admitted already.
        await store.mark_resuming(other.id, S.FROZEN, kept, 60.0)
        with pytest.raises(LimitExceeded):
            await store.insert(new_sandbox(project.id))
        await store.mark_given_back(other.id, 61.0)
    await store.mark_resuming(paused.id, S.PAUSED, None, 60.0)


async def test_no_pause_when_the_saves_hold_all_they_may(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, S.RUNNING)
    await take(database, sandbox)
    size_mib = (SAVED.memory_bytes + SAVED.disk_bytes) // MIB
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_saved_mib=size_mib))
    before = await dump(database)
    with pytest.raises(LimitExceeded, match=f"may take {size_mib} MiB on disk; they take {size_mib}"):
        await store.mark_pausing(sandbox.id, S.RUNNING, new_snapshot(sandbox, SnapshotRole.PAUSE))
    assert await dump(database) == before
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_saved_mib=size_mib + 1, max_snapshots=0))
    await store.mark_pausing(sandbox.id, S.RUNNING, new_snapshot(sandbox, SnapshotRole.PAUSE))


@pytest.mark.parametrize("state", list(S))
async def test_a_new_policy(database: Database, project: Project, state: SandboxState) -> None:
    store = SqlSandboxes(database)
    sandbox = await bring(database, project.id, state)
    policy = LifecyclePolicy(auto_resume=False, idle_timeout_s=5, on_idle=OnIdle.PAUSE)
    event = new_event(sandbox, EventType.UPDATED)
    before = await dump(database)
    with pytest.raises(FailedPrecondition if state is S.ENDED else Conflict):
        wrong = state if state is S.ENDED else (S.RUNNING if state is not S.RUNNING else S.FROZEN)
        await store.set_lifecycle(sandbox.id, wrong, policy.to_json(), event)
    assert await dump(database) == before
    if state is not S.ENDED:
        await store.set_lifecycle(sandbox.id, state, policy.to_json(), event)
        assert (await store.get(project.id, sandbox.id)).spec.lifecycle == policy


async def test_a_warm_one_is_inserted_as_it_runs(database: Database, project: Project) -> None:
    store = SqlSandboxes(database)
    sandbox, again, claim = new_sandbox(project.id), new_sandbox(project.id), Claim("k", "b", 0.0)
    assert await store.insert_running(sandbox, STARTED, new_event(sandbox), claim) == sandbox.id
    row = await store.get(project.id, sandbox.id)
    assert (row.state, row.started_at, row.address) == (S.RUNNING, STARTED.started_at, STARTED.address)
    before = await dump(database)
    assert await store.insert_running(again, STARTED, new_event(again), claim) == sandbox.id
    assert await dump(database) == before
    await SqlProjects(database).set_limits(project.id, ProjectLimits(max_sandboxes=1))
    with pytest.raises(LimitExceeded):
        await store.insert_running(again, STARTED, new_event(again))
    assert [event.sandbox_id for event in await SqlEvents(database).list(project.id, None, 0, 9)] == [sandbox.id]


async def _state(database: Database, id: SnapshotId) -> SnapshotState:
    found: Snapshot | None = await SqlSnapshots(database).find(id)
    assert found is not None
    return found.state
