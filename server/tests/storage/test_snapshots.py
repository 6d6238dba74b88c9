from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from atolld.core.event import EventType
from atolld.core.project import Project, ProjectLimits
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.errors import Conflict, LimitExceeded, NotFound
from atolld.foundation.ids import SnapshotId, new_project_id, new_snapshot_id
from atolld.storage.database import Database
from atolld.storage.events import SqlEvents
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.store import SnapshotPosition, SnapshotQuery

from .making import MIB, SAVED, S, bring, dump, end, new_event, new_sandbox, new_snapshot, pause, remove, resume, take

R, T = SnapshotRole, SnapshotState
SIZE_BYTES = SAVED.memory_bytes + SAVED.disk_bytes


@pytest.fixture
async def sandbox(database: Database, project: Project) -> Sandbox:
    return await bring(database, project.id, S.RUNNING)


async def _in(database: Database, sandbox: Sandbox, state: SnapshotState) -> SnapshotId:
    """A snapshot that has come to `state` by the usual way; a child keeps the row of a deleted one."""
    store, snapshot = SqlSnapshots(database), new_snapshot(sandbox)
    await store.insert(snapshot)
    if state is not T.CREATING:
        await store.mark_ready(snapshot.id, SAVED, None)
    if state is T.DELETED:
        await take(database, sandbox, parent=snapshot.id)
        await remove(database, snapshot.id)
    elif state is T.DELETING:
        await store.mark_deleting(snapshot.id)
    return snapshot.id


async def test_what_is_stored_comes_back(database: Database, sandbox: Sandbox) -> None:
    store, snapshot = SqlSnapshots(database), new_snapshot(sandbox, name="team/base:v1")
    await store.insert(snapshot)
    assert await store.find(snapshot.id) == snapshot
    saved = replace(SAVED, kind=SaveKind.FILESYSTEM)
    event = new_event(sandbox, EventType.CHECKPOINTED)
    await store.mark_ready(snapshot.id, saved, event)
    ready = replace(snapshot, state=T.READY, kind=SaveKind.FILESYSTEM, saved=saved)
    assert await store.find(snapshot.id) == ready == await store.get(sandbox.project_id, "team/base:v1")
    assert (await SqlSandboxes(database).get(sandbox.project_id, sandbox.id)).head_id == snapshot.id
    events = await SqlEvents(database).list(sandbox.project_id, sandbox.id, 0, 9)
    assert [one.id for one in events][1:] == [event.id]
    await take(database, sandbox, parent=snapshot.id)
    await remove(database, snapshot.id)
    gone = replace(ready, state=T.DELETED, name=None, saved=None, agent_token="")
    assert await store.find(snapshot.id) == gone
    assert await store.find(new_snapshot_id()) is None


@pytest.mark.parametrize(
    ("verb", "sources"), [("ready", {T.CREATING}), ("deleting", {T.CREATING, T.READY}), ("deleted", {T.DELETING})]
)
async def test_every_write_is_guarded(
    database: Database, sandbox: Sandbox, verb: str, sources: set[SnapshotState]
) -> None:
    for state in T:
        id = await _in(database, sandbox, state)
        if state in sources:
            await _do(database, verb, id, sandbox)
            continue
        before = await dump(database)
        with pytest.raises(Conflict, match=f"snapshot {id} is no longer"):
            await _do(database, verb, id, sandbox)
        assert await dump(database) == before


async def _do(database: Database, verb: str, id: SnapshotId, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    if verb == "ready":
        await store.mark_ready(id, SAVED, new_event(sandbox))
    elif verb == "deleting":
        await store.mark_deleting(id)
    else:
        await store.mark_deleted(id)


@pytest.mark.parametrize("role", [R.PAUSE, R.FORK])
async def test_only_what_users_keep_becomes_the_head(database: Database, sandbox: Sandbox, role: SnapshotRole) -> None:
    await take(database, sandbox, role)
    assert (await SqlSandboxes(database).get(sandbox.project_id, sandbox.id)).head_id is None


async def test_a_name_moves_to_the_newest_when_that_is_whole(database: Database, sandbox: Sandbox) -> None:
    store, project_id = SqlSnapshots(database), sandbox.project_id
    first = await take(database, sandbox, name="n")
    second = new_snapshot(sandbox, name="n")
    await store.insert(second)
    assert (await store.get(project_id, "n")).id == first
    await store.mark_ready(second.id, SAVED, None)
    assert (await store.get(project_id, "n")).id == second.id
    assert (await store.get(project_id, first)).name is None
    await store.mark_deleting(second.id)
    with pytest.raises(NotFound, match="'n'"):
        await store.get(project_id, "n")


async def test_names_of_other_projects_stay(database: Database, sandbox: Sandbox) -> None:
    other = await SqlProjects(database).ensure(Project(new_project_id(), "other"), 1.0)
    theirs = await take(database, await bring(database, other.id, S.RUNNING), name="n")
    mine = await take(database, sandbox, name="n")
    store = SqlSnapshots(database)
    assert (await store.get(other.id, "n")).id == theirs
    assert (await store.get(sandbox.project_id, "n")).id == mine
    for id_or_name in (theirs, "unknown", new_snapshot_id()):
        with pytest.raises(NotFound):
            await store.get(sandbox.project_id, id_or_name)


@pytest.mark.parametrize(
    ("stored", "asked", "found"),
    [
        ("n", "n:default", True),
        ("n:default", "n", True),
        ("n:default", "n:default", True),
        ("n:v1", "n:v1", True),
        ("n:v1", "n", False),
        ("n", "n:v1", False),
    ],
)
async def test_the_default_tag(database: Database, sandbox: Sandbox, stored: str, asked: str, found: bool) -> None:
    id, store = await take(database, sandbox, name=stored), SqlSnapshots(database)
    listed = await store.list(SnapshotQuery(sandbox.project_id, name=asked))
    assert [one.id for one in listed] == ([id] if found else [])
    if found:
        assert (await store.get(sandbox.project_id, asked)).id == id
    else:
        with pytest.raises(NotFound):
            await store.get(sandbox.project_id, asked)


@pytest.mark.parametrize("state", [T.CREATING, T.DELETING, T.DELETED])
async def test_only_whole_ones_are_found(database: Database, sandbox: Sandbox, state: SnapshotState) -> None:
    id, store = await _in(database, sandbox, state), SqlSnapshots(database)
    with pytest.raises(NotFound):
        await store.get(sandbox.project_id, id)
    assert id not in [one.id for one in await store.list(SnapshotQuery(sandbox.project_id))]


async def test_lists(database: Database, project: Project, sandbox: Sandbox) -> None:
    store, another = SqlSnapshots(database), await bring(database, project.id, S.RUNNING)
    ids = [await take(database, sandbox, created_at=at) for at in (1.0, 2.0, 2.0, 3.0)]
    theirs = await take(database, another, created_at=4.0)
    saved = await take(database, sandbox, R.PAUSE, created_at=5.0)
    newest_first = [theirs, ids[3], *sorted(ids[1:3], reverse=True), ids[0]]
    query = SnapshotQuery(project.id)
    assert [one.id for one in await store.list(query)] == newest_first
    assert [one.id for one in await store.list(replace(query, sandbox_id=another.id))] == [theirs]
    assert [one.id for one in await store.list(replace(query, roles=frozenset({R.PAUSE})))] == [saved]
    assert await store.list(SnapshotQuery(new_project_id())) == []
    pages: list[SnapshotId] = []
    after: SnapshotPosition | None = None
    while page := await store.list(replace(query, limit=2, after=after)):
        pages += [one.id for one in page]
        after = SnapshotPosition(page[-1].created_at, page[-1].id)
    assert pages == newest_first


async def test_how_many_a_project_may_keep(database: Database, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    await SqlProjects(database).set_limits(sandbox.project_id, ProjectLimits(max_snapshots=2))
    first = await take(database, sandbox)
    await store.insert(new_snapshot(sandbox))
    before = await dump(database)
    with pytest.raises(LimitExceeded, match="may keep 2 snapshots; it has 2"):
        await store.insert(new_snapshot(sandbox))
    assert await dump(database) == before
    # What users did not ask for does not count, and what they deleted counts no more.
    await take(database, sandbox, R.PAUSE)
    await take(database, sandbox, R.FORK)
    await store.mark_deleting(first)
    await store.insert(new_snapshot(sandbox))


@pytest.mark.parametrize("role", list(R))
async def test_how_much_a_project_may_keep(database: Database, sandbox: Sandbox, role: SnapshotRole) -> None:
    store, project_id = SqlSnapshots(database), sandbox.project_id
    await SqlProjects(database).set_limits(project_id, ProjectLimits(max_saved_mib=2 * SIZE_BYTES // MIB))
    first = await take(database, sandbox, role)
    await take(database, sandbox, role)
    assert await store.saved_bytes(project_id) == 2 * SIZE_BYTES
    for change in (None, store.mark_deleting):
        if change is not None:
            await change(first)
        with pytest.raises(LimitExceeded, match="MiB on disk"):
            await store.insert(new_snapshot(sandbox, role))
    await store.mark_deleted(first)
    assert await store.saved_bytes(project_id) == SIZE_BYTES
    await store.insert(new_snapshot(sandbox, role))
    assert await store.saved_bytes(new_project_id()) == 0


async def test_no_project(database: Database, sandbox: Sandbox) -> None:
    with pytest.raises(NotFound, match="no project"):
        await SqlSnapshots(database).insert(replace(new_snapshot(sandbox), project_id=new_project_id()))


async def test_whose_files_must_stay(database: Database, project: Project, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    ready, half = await _in(database, sandbox, T.READY), await _in(database, sandbox, T.CREATING)
    child = new_snapshot(sandbox, parent=ready)
    await store.insert(child)
    deleting, _ = await _in(database, sandbox, T.DELETING), await _in(database, sandbox, T.DELETED)
    pausing = await SqlSandboxes(database).get(project.id, (await bring(database, project.id, S.PAUSING)).id)
    kept = [one.id for one in await store.list(SnapshotQuery(project.id))]
    assert pausing.pending_save_id is not None and ready in kept
    assert await store.needed() == {*kept, half, child.id, pausing.pending_save_id}
    assert await store.removable() == [deleting]
    assert set(await store.interrupted()) == {half, child.id}


async def test_the_save_of_a_fork_is_left_over_at_the_next_start(database: Database, sandbox: Sandbox) -> None:
    fork = await take(database, sandbox, R.FORK)
    await take(database, sandbox, R.PAUSE)
    assert await SqlSnapshots(database).interrupted() == [fork]


async def test_what_a_live_sandbox_resumes_from_is_not_removed(
    database: Database, project: Project, sandbox: Sandbox
) -> None:
    store, sandboxes = SqlSnapshots(database), SqlSandboxes(database)
    kept = await take(database, sandbox)
    await resume(database, sandbox, S.RUNNING, kept)
    await store.mark_deleting(kept)
    assert await store.needed() == {kept}
    assert await store.removable() == []
    with pytest.raises(NotFound):
        await store.get(project.id, kept)
    own = await pause(database, sandbox)
    assert (await store.needed(), await store.removable()) == ({own}, [kept])
    await resume(database, sandbox)
    await end(sandboxes, sandbox, S.RUNNING)
    assert (await store.needed(), set(await store.removable())) == (set(), {kept, own})


async def test_deleted_ones_stay_as_long_as_they_have_children(database: Database, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    root = await take(database, sandbox)
    middle = await take(database, sandbox, parent=root)
    leaf, twig = await take(database, sandbox, parent=middle), await take(database, sandbox, parent=middle)
    await remove(database, root, middle)
    assert {one.id: one.state for one in await store.tree(sandbox.project_id, sandbox.id)} == {
        root: T.DELETED,
        middle: T.DELETED,
        leaf: T.READY,
        twig: T.READY,
    }
    await remove(database, leaf)
    assert await _rows(database) == {root, middle, twig}
    # The sandbox's next snapshot has the last one as its parent, also when that was deleted.
    await remove(database, twig)
    assert await _rows(database) == {root, middle, twig}
    assert await store.tree(sandbox.project_id, sandbox.id) == []
    await end(SqlSandboxes(database), sandbox, S.RUNNING)
    assert await _rows(database) == set()


async def test_a_moved_head_takes_what_was_kept_for_it(database: Database, sandbox: Sandbox) -> None:
    sandboxes = SqlSandboxes(database)
    first, second = await take(database, sandbox), await take(database, sandbox)
    await sandboxes.set_head(sandbox.id, first)
    await remove(database, first)
    assert await _rows(database) == {first, second}
    await sandboxes.set_head(sandbox.id, second)
    assert await _rows(database) == {second}
    await end(sandboxes, sandbox, S.RUNNING)
    await sandboxes.set_head(sandbox.id, first)
    assert (await sandboxes.get(sandbox.project_id, sandbox.id)).head_id == second


async def test_a_sandbox_that_was_never_made_keeps_nothing(database: Database, sandbox: Sandbox) -> None:
    sandboxes = SqlSandboxes(database)
    source = await take(database, sandbox)
    await end(sandboxes, sandbox, S.RUNNING)
    child = replace(new_sandbox(sandbox.project_id), head_id=source)
    await sandboxes.insert(child)
    assert (await sandboxes.get(child.project_id, child.id)).head_id == source
    await remove(database, source)
    assert await _rows(database) == {source}
    await sandboxes.discard(child.id)
    assert await _rows(database) == set()


async def test_many_pauses_keep_no_row_of_each(database: Database, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    kept = await take(database, sandbox, created_at=1.0)
    for n in range(5):
        last = await pause(database, sandbox, at=50.0 + n)
        await resume(database, sandbox, at=50.5 + n)
        for id in await store.removable():
            await store.mark_deleted(id)
    tree = await store.tree(sandbox.project_id, sandbox.id)
    assert [(one.id, one.parent_id) for one in tree] == [(kept, None), (last, kept)]
    assert await _rows(database) == {kept, last}


async def test_a_pause_from_which_two_went_on_stays_in_the_tree(database: Database, sandbox: Sandbox) -> None:
    store = SqlSnapshots(database)
    fork_point = await pause(database, sandbox, at=30.0)
    await resume(database, sandbox)
    one = await take(database, sandbox, parent=fork_point, created_at=31.0)
    await resume(database, sandbox, S.RUNNING, fork_point)
    two = await take(database, sandbox, parent=fork_point, created_at=32.0)
    await resume(database, sandbox, S.RUNNING, two)
    await store.mark_deleted(fork_point)
    tree = await store.tree(sandbox.project_id, sandbox.id)
    assert [(s.id, s.parent_id, s.state) for s in tree] == [
        (fork_point, None, T.DELETED),
        (one, fork_point, T.READY),
        (two, fork_point, T.READY),
    ]
    await remove(database, one)
    assert [(s.id, s.parent_id) for s in await store.tree(sandbox.project_id, sandbox.id)] == [(two, None)]


async def test_the_tree_joins_forks_with_what_they_came_from(
    database: Database, project: Project, sandbox: Sandbox
) -> None:
    store = SqlSnapshots(database)
    root = await take(database, sandbox, created_at=1.0)
    save = await take(database, sandbox, R.FORK, parent=root, created_at=2.0)
    siblings = []
    for _ in range(2):
        sibling = replace(new_sandbox(project.id), head_id=save)
        await SqlSandboxes(database).insert(sibling)
        siblings.append(sibling)
    await remove(database, save)
    children = [await take(database, one, parent=save, created_at=3.0 + n) for n, one in enumerate(siblings)]
    half = new_snapshot(siblings[0], parent=children[0])
    await store.insert(half)
    unrelated = await take(database, await bring(database, project.id, S.RUNNING))
    for one in (sandbox, *siblings):
        tree = await store.tree(project.id, one.id)
        assert [(s.id, s.parent_id) for s in tree] == [(root, None), *((child, root) for child in children)]
    assert unrelated in await _rows(database)
    assert await store.tree(new_project_id(), sandbox.id) == []


async def test_snapshots_outlive_their_sandbox(database: Database, project: Project, sandbox: Sandbox) -> None:
    store, sandboxes = SqlSnapshots(database), SqlSandboxes(database)
    kept = await take(database, sandbox, name="n")
    await end(sandboxes, sandbox, S.RUNNING)
    assert await sandboxes.purge(ended_before=1e9, claims_before=0.0) == 1
    found: Snapshot = await store.get(project.id, "n")
    assert (found.id, found.sandbox_id) == (kept, sandbox.id)
    assert [one.id for one in await store.tree(project.id, sandbox.id)] == [kept]
    assert await store.needed() == {kept}
    await remove(database, kept)
    assert await _rows(database) == set()


async def _rows(database: Database) -> set[str]:
    return set(await database.read(lambda c: c.execute(text("SELECT id FROM snapshots")).scalars().all()))
