from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from atolld.core.build import BuildState
from atolld.core.project import Project
from atolld.core.snapshot import SnapshotRole, SnapshotState
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.aio import spawn
from atolld.foundation.errors import Conflict, FailedPrecondition, NotFound
from atolld.foundation.ids import BuildId, ProjectId, TemplateId, new_build_id, new_project_id, new_template_id
from atolld.storage.database import Database
from atolld.storage.projects import SqlProjects
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.templates import DELETED, SqlTemplates
from atolld.storage.templatestore import BuildPosition, Memory, TemplatePosition, TemplateQuery

from .making import (
    BUILT,
    FAILURE,
    SAVED,
    S,
    bring,
    build_up,
    dump,
    end,
    new_build,
    new_sandbox,
    new_snapshot,
    new_template,
    remove,
    take,
)

B = BuildState


@pytest.fixture
def store(database: Database) -> SqlTemplates:
    return SqlTemplates(database)


async def other_project(database: Database) -> ProjectId:
    return (await SqlProjects(database).ensure(Project(new_project_id(), "Other"), 1.0)).id


async def test_what_is_stored_comes_back(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    asked = new_build(template, "v1", "default")
    stored, build = await store.request(template, asked)
    assert stored == replace(template, updated_at=2.0)
    assert build == asked == await store.build(asked.id)
    build = await store.begin(asked.id, "serve", "curl x")
    assert build == replace(asked, state=B.BUILDING, start_command="serve", ready_command="curl x")
    build = await store.finish(asked.id, BUILT, 9.5)
    ready = replace(asked, state=B.READY, start_command="serve", ready_command="curl x", built=BUILT, finished_at=9.5)
    assert build == ready == await store.build(asked.id)
    assert await store.find(template.id) == await store.by_name(project.id, "app") == replace(template, updated_at=9.5)
    failed = await build_up(database, template, state=B.FAILED, at=5.0)
    assert failed.failure == FAILURE
    assert await store.builds(template.id) == [failed, ready]


async def test_a_template_is_made_once(store: SqlTemplates, project: Project) -> None:
    first, second = new_template(project.id), new_template(project.id, at=7.0)
    await store.request(first, new_build(first))
    again, build = await store.request(second, new_build(second, at=8.0))
    assert (again.id, again.created_at, again.updated_at, build.template_id) == (first.id, 1.0, 8.0, first.id)
    assert await store.find(second.id) is None
    more = await store.insert_build(new_build(first, at=9.0))
    assert (more.template_id, more.state) == (first.id, B.WAITING)
    for work in (
        store.insert_build(new_build(second)),
        store.request(replace(second, project_id=new_project_id()), new_build(second)),
    ):
        with pytest.raises(NotFound):
            await work


async def test_templates_of_other_projects(database: Database, project: Project) -> None:
    store, theirs = SqlTemplates(database), await other_project(database)
    template = new_template(theirs)
    await build_up(database, template)
    hidden = new_template(theirs, "content", hidden=True)
    await build_up(database, hidden)
    assert await store.by_name(project.id, "app") is None
    assert await store.by_path("another", "app") is None
    public = await store.set_public(template.id, True, 30.0)
    assert (public.public, public.updated_at) == (True, 30.0)
    assert await store.set_public(template.id, True, 40.0) == public == await store.by_path("other", "app")
    assert (await store.set_public(template.id, False, 50.0)).public is False
    assert await store.by_path("other", "nope") is None
    with pytest.raises(FailedPrecondition, match="own definition"):
        await store.set_public(hidden.id, True, 30.0)
    assert (await store.set_public(hidden.id, False, 30.0)).public is False
    with pytest.raises(NotFound):
        await store.set_public(new_template_id(), True, 30.0)


async def test_lists_go_on_where_they_ended(database: Database, store: SqlTemplates, project: Project) -> None:
    made = [new_template(project.id, f"t{number}", at=float(number // 2)) for number in range(5)]
    for template in made:
        await build_up(database, template)
    await build_up(database, new_template(project.id, "hidden", hidden=True))
    await build_up(database, new_template(await other_project(database), "theirs"))
    wanted = [t.id for t in sorted(made, key=lambda t: (t.created_at, t.id), reverse=True)]
    seen: list[TemplateId] = []
    after: TemplatePosition | None = None
    while page := await store.list(TemplateQuery(project.id, limit=2, after=after)):
        seen += [one.id for one in page]
        after = TemplatePosition(page[-1].created_at, page[-1].id)
    assert seen == wanted
    assert len(await store.list(TemplateQuery(project.id, hidden=True))) == 6


async def test_builds_are_listed_newest_first(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    made = [await build_up(database, template, at=float(number // 2)) for number in range(5)]
    wanted = [b.id for b in sorted(made, key=lambda b: (b.created_at, b.id), reverse=True)]
    seen: list[BuildId] = []
    after: BuildPosition | None = None
    while page := await store.builds(template.id, limit=2, after=after):
        seen += [one.id for one in page]
        after = BuildPosition(page[-1].created_at, page[-1].id)
    assert seen == wanted


@pytest.mark.parametrize(
    ("verb", "sources"),
    [("begin", {B.WAITING}), ("finish", {B.BUILDING}), ("fail", {B.WAITING, B.BUILDING})],
)
async def test_every_write_is_guarded(database: Database, project: Project, verb: str, sources: set[B]) -> None:
    store, template = SqlTemplates(database), new_template(project.id)

    async def do(id: BuildId) -> Build:
        if verb == "begin":
            return await store.begin(id, None, None)
        return await (store.finish(id, BUILT, 9.0) if verb == "finish" else store.fail(id, FAILURE, 9.0))

    for state in B:
        build = await build_up(database, template, state=state)
        if state in sources:
            assert (await do(build.id)).id == build.id
            continue
        before = await dump(database)
        with pytest.raises(Conflict, match=f"build {build.id} is {state.value}"):
            await do(build.id)
        assert await dump(database) == before
    with pytest.raises(Conflict, match="deleted meanwhile"):
        await do(new_build_id())


async def test_the_memory_becomes_ready_with_the_build(database: Database, project: Project) -> None:
    store, snapshots, template = SqlTemplates(database), SqlSnapshots(database), new_template(project.id)
    build = await build_up(database, template, state=B.BUILDING)
    draft = replace(new_snapshot(new_sandbox(project.id), SnapshotRole.TEMPLATE), build_id=build.id)
    await snapshots.insert(draft)
    ready = await store.finish(build.id, BUILT, 9.0, Memory(draft.id, SAVED))
    save = await snapshots.find(draft.id)
    assert save is not None
    assert (ready.save_id, save.state, save.saved) == (draft.id, SnapshotState.READY, SAVED)
    # It is whole, so that no start of a daemon gives it up; and it is no user's.
    assert list(await snapshots.interrupted()) == []
    assert draft.id in await snapshots.needed()
    assert await snapshots.saved_bytes(project.id) == SAVED.memory_bytes + SAVED.disk_bytes


async def test_a_build_whose_memory_was_given_up_stays_unfinished(database: Database, project: Project) -> None:
    store, snapshots, template = SqlTemplates(database), SqlSnapshots(database), new_template(project.id)
    build = await build_up(database, template, "v1", state=B.BUILDING)
    draft = new_snapshot(new_sandbox(project.id), SnapshotRole.TEMPLATE)
    await snapshots.insert(draft)
    assert list(await snapshots.interrupted()) == [draft.id]
    await snapshots.mark_deleting(draft.id)
    before = await dump(database)
    with pytest.raises(Conflict, match=f"snapshot {draft.id} is no longer creating"):
        await store.finish(build.id, BUILT, 9.0, Memory(draft.id, SAVED))
    assert await dump(database) == before


async def _tags(store: SqlTemplates, template: TemplateRecord) -> dict[str, BuildId]:
    return {tag.tag: tag.build_id for tag in await store.tags(template.id)}


async def test_a_finished_build_gets_its_tags(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    first = await build_up(database, template, at=2.0)
    assert await _tags(store, template) == {"default": first.id}
    second = await build_up(database, template, "v2", "default", at=5.0)
    third = await build_up(database, template, "v3", at=8.0)
    await build_up(database, template, "v4", state=B.FAILED, at=9.0)
    await build_up(database, template, "v5", state=B.BUILDING, at=9.0)
    assert await _tags(store, template) == {"default": second.id, "v2": second.id, "v3": third.id}
    for tag, build in (("default", second), ("v3", third), (first.id, first), (third.id, third)):
        assert await store.resolve(template.id, tag) == build
    for tag in ("v4", "v5", "", new_build_id()):
        assert await store.resolve(template.id, tag) is None


async def test_a_tag_stays_with_the_build_that_was_asked_for_last(
    database: Database, store: SqlTemplates, project: Project
) -> None:
    template = new_template(project.id)
    slow = await build_up(database, template, "default", "slow", state=B.BUILDING, at=2.0)
    fast = await build_up(database, template, at=5.0)
    await store.finish(slow.id, BUILT, 50.0)
    assert await _tags(store, template) == {"default": fast.id, "slow": slow.id}
    # One that somebody moved on purpose to an older build is moved on by a newer one.
    await store.assign(template.id, ["default"], slow.id, 60.0)
    newest = await build_up(database, template, at=70.0)
    assert (await _tags(store, template))["default"] == newest.id


async def test_tags_are_given_and_removed(database: Database, store: SqlTemplates, project: Project) -> None:
    template, other = new_template(project.id), new_template(project.id, "other")
    first, second = await build_up(database, template, at=2.0), await build_up(database, template, at=5.0)
    theirs = await build_up(database, other)
    failed = await build_up(database, template, state=B.FAILED)
    given = await store.assign(template.id, ["prod", "stable"], first.id, 20.0)
    assert [(tag.tag, tag.build_id, tag.assigned_at) for tag in given] == [
        ("prod", first.id, 20.0),
        ("stable", first.id, 20.0),
    ]
    await store.assign(template.id, ["prod"], second.id, 30.0)
    await store.assign(template.id, ["prod"], second.id, 35.0)
    assert await _tags(store, template) == {"default": second.id, "prod": second.id, "stable": first.id}
    history = await store.history(template.id, "prod")
    assert [(one.build_id, one.assigned_at) for one in history] == [(second.id, 30.0), (first.id, 20.0)]
    assert (history[1].build_created_at, history[1].build_finished_at) == (2.0, 3.0)
    assert await store.history(template.id, "prod", limit=1) == history[:1]
    assert await store.history(template.id, "prod", before=history[0].sequence) == history[1:]
    assert await store.history(other.id, "prod") == []
    before = await dump(database)
    for work, error in (
        (store.assign(template.id, ["x"], theirs.id, 1.0), NotFound),
        (store.assign(template.id, ["x"], failed.id, 1.0), FailedPrecondition),
        (store.assign(new_template_id(), ["x"], first.id, 1.0), NotFound),
        (store.untag(template.id, ["prod", "nope"]), NotFound),
        (store.untag(new_template_id(), ["prod"]), NotFound),
    ):
        with pytest.raises(error):
            await work
    assert await dump(database) == before
    await store.untag(template.id, ["prod", "default"])
    assert await _tags(store, template) == {"stable": first.id}
    assert await store.history(template.id, "prod") == []
    assert await store.resolve(template.id, "prod") is None


async def test_a_deleted_template_is_found_by_nobody(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    ready = await build_up(database, template, "v1")
    building = await build_up(database, template, state=B.BUILDING, at=5.0)
    waiting = await build_up(database, template, state=B.WAITING, at=6.0)
    await store.set_public(template.id, True, 7.0)
    assert list(await store.delete(template.id, 9.0)) == [building.id, waiting.id]
    assert await store.find(template.id) is None is await store.by_name(project.id, "app")
    assert await store.by_path("default", "app") is None
    assert await store.list(TemplateQuery(project.id)) == [] == await store.builds(template.id)
    assert await store.tags(template.id) == [] == await store.history(template.id, "v1")
    for build in (ready, building, waiting):
        assert await store.build(build.id) is None is await store.resolve(template.id, build.id)
    for work in (store.finish(building.id, BUILT, 9.0), store.begin(waiting.id, None, None)):
        with pytest.raises(Conflict, match="deleted meanwhile"):
            await work
    with pytest.raises(NotFound):
        await store.delete(template.id, 9.0)
    failures = await database.read(lambda c: c.execute(text("SELECT failure FROM template_builds")).scalars().all())
    assert sum(DELETED in str(failure) for failure in failures) == 2
    # The name is free.
    again, _ = await store.request(new_template(project.id), new_build(template, at=10.0))
    assert again.id != template.id
    assert {build.id for build in await store.pinned()} == {ready.id}
    assert set(await store.removable()) == {ready.id, building.id, waiting.id}
    for build in (ready, building, waiting, ready):
        await store.remove(build.id)
    left = (await dump(database))["templates"]
    assert len(left) == 1
    assert again.id in left[0]


async def test_a_template_without_builds_goes_at_once(
    database: Database, store: SqlTemplates, project: Project
) -> None:
    template = new_template(project.id)
    build = await build_up(database, template, state=B.FAILED)
    await store.delete_build(build.id, 5.0)
    await store.remove(build.id)
    assert await store.find(template.id) is not None
    await store.delete(template.id, 6.0)
    assert (await dump(database))["templates"] == []


@pytest.mark.parametrize(
    ("need", "kept"),
    [
        ("nothing", False),
        (S.CREATING, True),
        (S.RUNNING, True),
        (S.PAUSED, True),
        (S.STOPPING, True),
        (S.ENDED, False),
        (SnapshotRole.SNAPSHOT, True),
        (SnapshotRole.TEMPLATE, False),
        ("deleted snapshot", False),
    ],
)
async def test_what_is_needed_stays(database: Database, project: Project, need: object, kept: bool) -> None:
    store, template = SqlTemplates(database), new_template(project.id)
    build = await build_up(database, template)
    source = new_sandbox(project.id, build.id)
    if isinstance(need, S):
        await bring(database, project.id, need, build.id)
    elif isinstance(need, SnapshotRole):
        await take(database, source, need)
    elif need == "deleted snapshot":
        await remove(database, await take(database, source))
    assert list(await store.removable()) == []
    await store.delete(template.id, 9.0)
    assert list(await store.removable()) == ([] if kept else [build.id])
    if kept:
        before = await dump(database)
        with pytest.raises(Conflict, match="is needed"):
            await store.remove(build.id)
        assert await dump(database) == before


async def test_the_memory_goes_with_its_build(database: Database, project: Project) -> None:
    store, snapshots, template = SqlTemplates(database), SqlSnapshots(database), new_template(project.id)
    draft = new_snapshot(new_sandbox(project.id), SnapshotRole.TEMPLATE)
    await snapshots.insert(draft)
    build = await build_up(database, template, memory=draft.id)
    sandbox = await bring(database, project.id, S.RUNNING, build.id)
    await store.delete(template.id, 9.0)
    assert list(await snapshots.removable()) == [] == list(await store.removable())
    await end(SqlSandboxes(database), sandbox, S.RUNNING)
    assert list(await store.removable()) == [build.id]
    await store.remove(build.id)
    assert list(await snapshots.removable()) == [draft.id]
    await snapshots.mark_deleted(draft.id)
    assert await snapshots.find(draft.id) is None


async def test_single_builds_are_deleted(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    old, new = await build_up(database, template, "old", at=2.0), await build_up(database, template, at=5.0)
    building = await build_up(database, template, state=B.BUILDING, at=6.0)
    for id, error in ((old.id, "tag 'old'"), (new.id, "tag 'default'"), (building.id, "cancel it first")):
        with pytest.raises(FailedPrecondition, match=error):
            await store.delete_build(id, 9.0)
    await store.assign(template.id, ["old"], new.id, 8.0)
    await store.delete_build(old.id, 9.0)
    with pytest.raises(NotFound):
        await store.delete_build(old.id, 9.0)
    assert [one.id for one in await store.builds(template.id)] == [building.id, new.id]
    # What it was is no more in the history of its tags.
    assert [one.build_id for one in await store.history(template.id, "old")] == [new.id]
    assert list(await store.removable()) == [old.id]
    await store.remove(old.id)
    assert await store.find(template.id) is not None


async def test_what_a_daemon_left_unfinished(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    for state in B:
        for at in (10.0, 200.0):
            await build_up(database, template, state=state, at=at)
    deleted = new_template(project.id, "deleted")
    await build_up(database, deleted, state=B.BUILDING)
    await store.delete(deleted.id, 9.0)
    found = [(one.state, one.created_at) for one in await store.interrupted(100.0)]
    assert found == [(B.WAITING, 10.0), (B.BUILDING, 10.0), (B.BUILDING, 200.0)] or found == [
        (B.BUILDING, 10.0),
        (B.WAITING, 10.0),
        (B.BUILDING, 200.0),
    ]


@pytest.mark.parametrize(
    ("what", "unused"),
    [
        ("old", True),
        ("new", False),
        ("named", False),
        ("building", False),
        ("running", False),
        ("ended", False),
        ("purged", True),
        ("snapshot", False),
    ],
)
async def test_hidden_templates_that_nobody_used(database: Database, project: Project, what: str, unused: bool) -> None:
    store, template = SqlTemplates(database), new_template(project.id, hidden=what != "named")
    at = 200.0 if what == "new" else 10.0
    build = await build_up(database, template, state=B.BUILDING if what == "building" else B.READY, at=at)
    if what in ("running", "ended", "purged"):
        await bring(database, project.id, S.RUNNING if what == "running" else S.ENDED, build.id)
    if what == "purged":
        await SqlSandboxes(database).purge(ended_before=1000.0, claims_before=0.0)
    if what == "snapshot":
        await take(database, new_sandbox(project.id, build.id))
    assert list(await store.unused(100.0)) == ([template.id] if unused else [])


async def test_outlines(database: Database, store: SqlTemplates, project: Project) -> None:
    empty, building, tagged, untagged, deleted = (
        new_template(project.id, name) for name in ("empty", "building", "tagged", "untagged", "deleted")
    )
    gone = await build_up(database, empty, state=B.FAILED)
    await store.delete_build(gone.id, 3.0)
    waits = await build_up(database, building, state=B.WAITING)
    default = await build_up(database, tagged, "default", "v1", at=2.0)
    await build_up(database, tagged, "v2", at=5.0)
    failed = await build_up(database, tagged, state=B.FAILED, at=6.0)
    for at in (2.0, 5.0):
        newest = await build_up(database, untagged, "v1", at=at)
    await build_up(database, deleted)
    await store.delete(deleted.id, 9.0)
    found = await store.outlines([one.id for one in (empty, building, tagged, untagged, deleted)])
    shown = {id: (one.current, one.newest, one.builds, [tag.tag for tag in one.tags]) for id, one in found.items()}
    assert shown == {
        empty.id: (None, None, 0, []),
        building.id: (waits, waits, 1, []),
        tagged.id: (default, failed, 3, ["default", "v1", "v2"]),
        untagged.id: (newest, newest, 2, ["v1"]),
    }
    assert await store.outlines([]) == {}


async def test_use_is_noted(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id, hidden=True)
    await build_up(database, template)
    assert list(await store.unused(100.0)) == [template.id]
    await store.touch(template.id, 100.0)
    await store.touch(new_template_id(), 100.0)
    assert list(await store.unused(100.0)) == []


async def test_writes_are_counted_when_they_are_done(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    counts = [store.changes]
    heard: list[int] = []
    store.listen(lambda: heard.append(store.changes))
    _, build = await store.request(template, new_build(template))
    counts.append(store.changes)
    begun = spawn(store.begin(build.id, None, None), name="begin", report=False)
    await asyncio.sleep(0)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    # It goes on although its caller went away.
    while (found := await store.build(build.id)) is not None and found.state is not B.BUILDING:
        pass
    await store.fail(build.id, FAILURE, 9.0)
    counts.append(store.changes)
    assert counts == sorted(counts)
    assert counts[2] == counts[1] + 2
    assert heard == [counts[0] + 1, counts[0] + 2, counts[0] + 3]
