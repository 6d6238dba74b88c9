"""Templates as their owners see them, their tags, and what is left of deleted ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atolld.control.templateleftovers import Leftovers
from atolld.control.testing import BUILD_SPEC, BUILT, SPEC, World, until
from atolld.core.build import BuildState, Failure
from atolld.core.project import Project, ProjectLimits
from atolld.core.snapshot import SaveKind, SnapshotRole, SnapshotState
from atolld.core.template import Build
from atolld.foundation.errors import (
    Conflict,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
)
from atolld.foundation.ids import BuildId, ProjectId, SnapshotId, new_build_id, new_project_id, new_template_id
from atolld.storage.projects import SqlProjects

# The same in every process.
NO_BUILD = "00000000-0000-0000-0000-000000000000"


async def other_project(world: World) -> ProjectId:
    return (await SqlProjects(world.database).ensure(Project(new_project_id(), "Team"), 1.0)).id


async def idle(world: World) -> None:
    """Let the background remove what it can."""
    for _ in range(20):
        await world.store.live()
        await asyncio.sleep(0)


async def test_what_a_project_has(world: World) -> None:
    records, project, team = world.registry.records, world.project.id, await other_project(world)
    mine = await world.build("app")
    theirs = await world.build("app", project_id=team)
    for name in ("app", "default/app", mine.template_id, "app:default"):
        assert (await records.get(project, name)).id == mine.template_id
    for name in ("nope", "team/app", theirs.template_id, new_template_id()):
        for look in (records.get, records.visible):
            with pytest.raises(NotFound):
                await look(project, name)
    await records.set_public(team, "app", True)
    assert (await records.visible(project, "team/app")).id == theirs.template_id
    assert (await records.visible(project, theirs.template_id)).public
    for work in (
        records.get(project, "team/app"),
        records.set_public(project, "team/app", False),
        records.delete(project, theirs.template_id),
    ):
        with pytest.raises(NotFound, match="this project has no template"):
            await work
    for name in ("app:v1", ":v1", "app:", "App"):
        with pytest.raises(InvalidArgument):
            await records.get(project, name)


async def test_pages(world: World) -> None:
    records, project = world.registry.records, world.project.id
    names = [f"t{number}" for number in range(5)]
    for name in names:
        await world.build(name)
        await world.clock.advance(1)
    await world.build("image-1", hidden=True)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await records.list(project, limit=2, cursor=cursor)
        seen += [one.record.name for one in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == names[::-1]
    (one,) = (await records.list(project, limit=1)).items
    assert one.outline == await records.outline(one.record)
    assert (one.outline.builds, [tag.tag for tag in one.outline.tags]) == (1, ["default"])
    assert [one.record.name for one in (await records.list(project, hidden=True)).items][0] == "image-1"
    for limit, bad in ((0, None), (101, None), (10, "x"), (10, "WzEsImEiXQ")):
        with pytest.raises(InvalidArgument):
            await records.list(project, limit=limit, cursor=bad)


async def test_pages_of_builds(world: World) -> None:
    records, project = world.registry.records, world.project.id
    made: list[BuildId] = []
    for _ in range(5):
        made.append((await world.build("app")).id)
        await world.clock.advance(1)
    first = await records.builds(project, "app", limit=3)
    rest = await records.builds(project, "app", limit=3, cursor=first.next_cursor)
    assert [one.id for one in (*first.items, *rest.items)] == made[::-1]
    assert rest.next_cursor is None
    with pytest.raises(InvalidArgument, match="cursor"):
        await records.builds(project, "app", cursor="WzEsImEiXQ")


@pytest.mark.parametrize(
    ("name", "tags"),
    [("App", ()), ("a/b", ()), ("app:v1", ()), ("", ()), (NO_BUILD, ()), ("app", ("V",)), ("app", (":",))],
)
async def test_what_a_template_cannot_be_called(world: World, name: str, tags: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument):
        await world.registry.builds.request(world.project.id, name, tags, BUILD_SPEC)
    assert (await world.registry.records.list(world.project.id)).items == []


async def test_tags_move(world: World) -> None:
    tags, project = world.registry.tags, world.project.id
    old = await world.build("app", "v1", "default")
    await world.clock.advance(1)
    new = await world.build("app", "v2")
    build_id, given = await tags.assign(project, "app:v2", ["prod", "default", "prod"])
    assert (build_id, [tag.tag for tag in given]) == (new.id, ["prod", "default"])
    for target, build in ((f"app:{old.id}", old), (old.id, old), ("app", new), ("default/app:v1", old)):
        assert (await tags.assign(project, target, ["prod"]))[0] == build.id
    assert {tag.tag: tag.build_id for tag in await tags.list(project, "app")} == {
        "default": new.id,
        "prod": old.id,
        "v1": old.id,
        "v2": new.id,
    }
    assert await tags.exists(project, "app", "prod")
    assert not await tags.exists(project, "app", "nope")
    history = await tags.history(project, "app", "prod", limit=3)
    rest = await tags.history(project, "app", "prod", cursor=history.next_cursor)
    assert [one.build_id for one in (*history.items, *rest.items)] == [old.id, new.id, old.id, new.id]
    (default, prod, *_) = await tags.groups(project, "app", 2)
    assert ([one.build_id for one in default.assignments], default.has_more) == ([new.id, old.id], False)
    assert ([one.build_id for one in prod.assignments], prod.has_more) == ([old.id, new.id], True)
    await tags.remove(project, "app", ["prod", "default"])
    assert not await tags.exists(project, "app", "default")
    with pytest.raises(NotFound):
        await tags.history(project, "app", "prod")


async def test_what_tags_cannot_be(world: World) -> None:
    tags, project, team = world.registry.tags, world.project.id, await other_project(world)
    build = await world.build("app")
    theirs = await world.build("app", project_id=team)
    await world.registry.records.set_public(team, "app", True)
    assert [tag.build_id for tag in await tags.list(project, "team/app")] == [theirs.id]
    table: list[tuple[object, type[Exception]]] = [
        (tags.assign(project, "app", []), InvalidArgument),
        (tags.assign(project, "app", ["A"]), InvalidArgument),
        (tags.assign(project, "app", [new_build_id()]), InvalidArgument),
        (tags.assign(project, ":x", ["a"]), InvalidArgument),
        (tags.assign(project, "app:", ["a"]), InvalidArgument),
        (tags.assign(project, "app:nope", ["a"]), NotFound),
        (tags.assign(project, f"app:{new_build_id()}", ["a"]), NotFound),
        (tags.assign(project, f"app:{theirs.id}", ["a"]), NotFound),
        (tags.assign(project, theirs.id, ["a"]), NotFound),
        (tags.assign(project, "team/app", ["a"]), NotFound),
        (tags.remove(project, "team/app", ["default"]), NotFound),
        (tags.remove(project, "app", []), InvalidArgument),
        (tags.remove(project, "app", ["nope"]), NotFound),
        (tags.exists(project, "app", "A"), InvalidArgument),
        (tags.history(project, "app", "default", cursor="x"), InvalidArgument),
        (tags.history(project, "app", "default", cursor="WzEsIngiXQ"), InvalidArgument),
    ]
    for work, error in table:
        with pytest.raises(error):
            await work  # type: ignore[misc]
    assert [tag.build_id for tag in await tags.list(project, "app")] == [build.id]


async def test_a_build_from_its_request_to_its_end(world: World) -> None:
    builds, project = world.registry.builds, world.project.id
    record, waiting = await builds.request(project, "app", ("v1", "v1"), BUILD_SPEC)
    assert (waiting.state, waiting.tags) == (BuildState.WAITING, ("v1",))
    assert await builds.ready(project, "app") is None
    building = await builds.begin(waiting, "serve", "true")
    assert (building.state, building.start_command) == (BuildState.BUILDING, "serve")
    with pytest.raises(Conflict):
        await builds.begin(waiting, None, None)
    assert await builds.interrupted() == [waiting.id]
    ready = await builds.finish(waiting.id, BUILT, None)
    assert ready == await builds.get(project, record.id, waiting.id)
    assert world.registry.pins.pinned == {ready.id: BUILT.layers}
    # It is too late for that.
    await builds.fail(ready.id, Failure("no"))
    assert (await builds.get(project, record.id, ready.id)).state is BuildState.READY
    assert world.registry.pins.pinned == {ready.id: BUILT.layers}
    for ids in ((project, new_template_id(), ready.id), (await other_project(world), record.id, ready.id)):
        with pytest.raises(NotFound):
            await builds.get(*ids)


async def test_a_build_that_fails_keeps_nothing(world: World) -> None:
    builds, pins = world.registry.builds, world.registry.pins
    record, build = await builds.request(world.project.id, "app", (), BUILD_SPEC)
    await builds.begin(build, None, None)
    pins.gone.add(BUILT.layers[0])
    with pytest.raises(NotFound):
        await builds.finish(build.id, BUILT, None)
    pins.pin(build.id, BUILT.layers[1:])
    await builds.fail(build.id, Failure("its layers are gone"))
    found = await builds.get(world.project.id, record.id, build.id)
    assert (found.state, found.failure, pins.pinned) == (BuildState.FAILED, Failure("its layers are gone"), {})


async def test_what_a_definition_built_is_found_again(world: World) -> None:
    builds, project = world.registry.builds, world.project.id
    build = await world.build("image-1", hidden=True)
    found = await builds.ready(project, "image-1")
    assert found is not None
    assert (found[1], found[0].updated_at) == (build, world.clock.now())
    await world.clock.advance(25 * 3600)
    again = await builds.ready(project, "image-1")
    record = await world.registry.store.find(build.template_id)
    assert again is not None
    assert record is not None
    assert record.updated_at == world.clock.now()
    world.registry.pins.gone.add(BUILT.layers[1])
    assert await builds.ready(project, "image-1") is None


async def _memory_of(world: World, build: Build) -> SnapshotState | None:
    assert build.save_id is not None
    found = await world.snapshots.find(build.save_id)
    return None if found is None else found.state


@pytest.mark.parametrize("user", ["running", "paused", "snapshot", "nothing"])
async def test_a_deleted_template_stays_as_long_as_it_is_needed(world: World, user: str) -> None:
    project, records = world.project.id, world.registry.records
    build = await world.build("app", memory={"served": 3})
    made = await world.sandboxes.create(project, replace(SPEC, template="app"))
    if user == "paused":
        await world.sandboxes.pause(project, made.id, SaveKind.FILESYSTEM)
    elif user == "snapshot":
        await world.sandboxes.snapshots.create(project, made.id, "kept")
    if user in ("snapshot", "nothing"):
        await world.sandboxes.kill(project, made.id)
    await records.delete(project, "app")
    assert (await records.list(project)).items == []
    with pytest.raises(NotFound):
        await world.sandboxes.create(project, replace(SPEC, template="app"))
    await idle(world)
    if user != "nothing":
        assert await _memory_of(world, build) is SnapshotState.READY
        assert world.registry.pins.pinned == {build.id: BUILT.layers}
        # The name is free meanwhile.
        await world.clock.advance(1)
        again = await world.build("app")
        assert again.template_id != build.template_id
        await records.delete(project, "app")
        if user == "snapshot":
            await world.sandboxes.snapshots.delete(project, "kept")
        else:
            await world.sandboxes.kill(project, made.id)
    await until(lambda: not world.registry.pins.pinned and build.save_id not in world.node.machine.saves)
    while await _memory_of(world, build) is not None:
        pass
    assert await world.registry.store.build(build.id, deleted=True) is None


async def test_builds_under_way_are_told(world: World) -> None:
    builds, records = world.registry.builds, world.registry.records
    told: list[BuildId] = []
    records.on_cancelled = told.extend
    _, build = await builds.request(world.project.id, "app", (), BUILD_SPEC)
    await builds.begin(build, None, None)
    await records.delete(world.project.id, "app")
    assert told == [build.id]
    with pytest.raises(Conflict, match="deleted meanwhile"):
        await builds.finish(build.id, BUILT, None)


async def test_single_builds_go(world: World) -> None:
    records, project = world.registry.records, world.project.id
    old = await world.build("app", memory={"served": 1})
    await world.clock.advance(1)
    new = await world.build("app")
    other = await world.build("other")
    with pytest.raises(FailedPrecondition, match="tag 'default'"):
        await records.delete_build(project, "app", new.id)
    for id in (other.id, new_build_id()):
        with pytest.raises(NotFound):
            await records.delete_build(project, "app", id)
    await records.delete_build(project, "app", old.id)
    await until(lambda: set(world.registry.pins.pinned) == {new.id, other.id})
    await until(lambda: not world.node.machine.saves)


async def test_what_could_not_be_removed_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build = await world.build("app")
    failures = [OSError("a broken disk")]
    unpin = world.registry.pins.unpin

    def fail_once(owner: str) -> None:
        if failures:
            raise failures.pop()
        unpin(owner)

    monkeypatch.setattr(world.registry.pins, "unpin", fail_once)
    await world.registry.records.delete(world.project.id, "app")
    await until(lambda: not failures)
    await idle(world)
    assert build.id in world.registry.pins.pinned
    await world.clock.advance(60)
    await until(lambda: not world.registry.pins.pinned)


async def test_definitions_that_nobody_uses_go_after_a_time(world: World) -> None:
    build = await world.build("image-1", hidden=True)
    used = await world.build("image-2", hidden=True)
    named = await world.build("app")
    made = await world.sandboxes.create(world.project.id, replace(SPEC, template="image-2", timeout_s=None))
    leftovers = Leftovers(world.registry.store, world.registry.pins, world.clock, unused_s=100.0)
    for rest_s, left in ((99.0, {build.id, used.id, named.id}), (2.0, {used.id, named.id})):
        await world.clock.advance(rest_s)
        await leftovers.forget_unused()
        assert set(world.registry.pins.pinned) == left
    assert (await world.sandboxes.get(world.project.id, made.id)).build_id == used.id


async def test_versions_that_are_too_many_go_with_all_they_kept(world: World) -> None:
    records, clock, logs = world.registry.records, world.clock, list[BuildId]()
    leftovers = Leftovers(world.registry.store, world.registry.pins, clock, versions_kept=1, forget_log=logs.append)
    builds = []
    for number in range(4):
        builds.append(await world.build("app", memory={"n": number}))
        await clock.advance(1)
    first = await world.sandboxes.create(
        world.project.id, replace(SPEC, template=f"app:{builds[0].id}", timeout_s=None)
    )
    await leftovers.collect()
    await idle(world)
    # The first is used, the third is the newest without a tag.
    kept = [builds[0], builds[2], builds[3]]
    left = await records.builds(world.project.id, "app")
    assert {one.id for one in left.items} == {one.id for one in kept} == set(world.registry.pins.pinned)
    assert logs == [builds[1].id]
    await world.sandboxes.kill(world.project.id, first.id)
    await world.ended(first.id)
    await leftovers.collect()
    assert logs == [builds[1].id, builds[0].id]
    await world.sandboxes.garbage.collect()
    assert len(world.node.machine.saves) == 2


async def test_what_a_build_leaves_is_looked_for_when_it_ends(world: World) -> None:
    ended: list[str] = []
    world.registry.builds.on_ended = lambda: ended.append("ended")
    await world.build("app")
    assert ended == ["ended"]
    build = await _building(world)
    for _ in range(2):
        await world.registry.builds.fail(build.id, Failure("no"))
    assert ended == ["ended", "ended"]


async def test_a_build_that_nobody_starts_has_failed_after_a_day(world: World) -> None:
    _, waiting = await world.registry.builds.request(world.project.id, "app", (), BUILD_SPEC)
    building = await _building(world)
    for rest_h, states in (
        (23, {BuildState.WAITING, BuildState.BUILDING}),
        (2, {BuildState.FAILED, BuildState.BUILDING}),
    ):
        await world.clock.advance(rest_h * 3600)
        await world.registry.leftovers.forget_unused()
        found = [await world.registry.store.build(one.id) for one in (waiting, building)]
        assert {one.state for one in found if one is not None} == states
    ended = await world.registry.builds.get(world.project.id, waiting.template_id, waiting.id)
    assert ended.failure == Failure("it was not started within a day")


class Step:
    """The sandbox of a build."""

    def __init__(self, world: World) -> None:
        (self.id,) = world.node.machine.sandboxes
        self.token = "t"


async def _building(world: World) -> Build:
    _, build = await world.registry.builds.request(world.project.id, "app", (), BUILD_SPEC)
    await world.create()
    return await world.registry.builds.begin(build, "serve", None)


async def test_a_save_that_is_given_up_leaves_nothing(world: World) -> None:
    build = await _building(world)
    id = await world.registry.saves.take(build, Step(world))
    row = await world.snapshots.find(id)
    assert row is not None
    assert (row.role, row.state, row.build_id) == (SnapshotRole.TEMPLATE, SnapshotState.CREATING, build.id)
    assert (await world.registry.saves.memory(id)).id == id
    for _ in range(2):
        await world.registry.saves.give_up(id)
    await until(lambda: not world.node.machine.saves)
    with pytest.raises(Internal, match="not on this machine"):
        await world.registry.builds.finish(build.id, BUILT, id)
    assert (await world.registry.builds.get(build.project_id, build.template_id, build.id)).state is BuildState.BUILDING


async def test_a_save_that_fails_leaves_nothing(world: World) -> None:
    build = await _building(world)
    world.node.fail("saving", FailedPrecondition("an open file"))
    with pytest.raises(FailedPrecondition, match="an open file"):
        await world.registry.saves.take(build, Step(world))
    await idle(world)
    assert (await world.snapshots.needed(), await world.snapshots.removable()) == (set(), [])


async def test_what_saves_may_take(world: World) -> None:
    build = await _building(world)
    await world.projects.set_limits(world.project.id, ProjectLimits(max_saved_mib=0, max_snapshots=0))
    with pytest.raises(LimitExceeded, match="MiB on disk"):
        await world.registry.saves.take(build, Step(world))
    # It is no snapshot of a user's.
    await world.projects.set_limits(world.project.id, ProjectLimits(max_snapshots=0))
    id = await world.registry.saves.take(build, Step(world))
    await world.registry.builds.finish(build.id, BUILT, id)
    assert await world.snapshots.saved_bytes(world.project.id) > 0


async def test_no_save_for_a_template_that_was_deleted(world: World) -> None:
    build = await _building(world)
    await world.registry.records.delete(world.project.id, "app")
    with pytest.raises(NotFound, match="deleted while it was built"):
        await world.registry.saves.take(build, Step(world))
    assert await world.snapshots.find(SnapshotId("s" + "0" * 19)) is None


async def test_a_runtime_that_cannot_save(world: World) -> None:
    build = await _building(world)
    with pytest.raises(NotFound, match="no runtime 'nope'"):
        await world.registry.saves.take(replace(build, spec=replace(build.spec, runtime="nope")), Step(world))
