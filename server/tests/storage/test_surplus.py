"""Which versions make way for newer ones, and how many a project may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.core.build import BuildState
from atolld.core.pool import Pool
from atolld.core.project import Project
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SnapshotRole
from atolld.foundation.errors import Conflict, LimitExceeded, NotFound
from atolld.foundation.ids import BuildId, new_build_id, new_pool_id, new_project_id
from atolld.storage.database import Database
from atolld.storage.pools import SqlPools
from atolld.storage.projects import SqlProjects
from atolld.storage.templates import SqlTemplates

from .making import BUILT, FAILURE, S, bring, build_up, dump, new_build, new_sandbox, new_template, remove, take

B = BuildState


@pytest.fixture
def store(database: Database) -> SqlTemplates:
    return SqlTemplates(database)


@pytest.mark.parametrize(
    ("builds", "keep", "left"),
    [
        # A letter a build, oldest first: r ready and f failed without a tag, t ready with one, b building, w waiting.
        ("", 0, ""),
        ("rrrrrt", 10, "rrrrrt"),
        ("rrrrrt", 2, "   rrt"),
        ("rrrrrt", 0, "     t"),
        # The newest that is ready stays, also without a tag.
        ("trrr", 0, "t  r"),
        ("rrr", 1, "  r"),
        ("rf", 0, "r "),
        # Tags push none out, nor do failures.
        ("rttttr", 1, " ttttr"),
        ("rrfffft", 1, " r   ft"),
        ("rrttt", 1, " rttt"),
        ("rrt", 1, " rt"),
        ("bwrrt", 0, "bw  t"),
    ],
)
async def test_the_newest_stay(
    database: Database, store: SqlTemplates, project: Project, builds: str, keep: int, left: str
) -> None:
    template, other = new_template(project.id), new_template(project.id, "other")
    beside = await build_up(database, other, "moves", at=1.0)
    await store.untag(other.id, ["moves"])
    states = {"f": B.FAILED, "b": B.BUILDING, "w": B.WAITING}
    made: list[BuildId] = []
    for at, letter in enumerate(builds):
        tag = f"v{at}" if letter == "t" else "moves"
        build = await build_up(database, template, tag, state=states.get(letter, B.READY), at=float(at))
        made.append(build.id)
    if "r" in builds:
        await store.untag(template.id, ["moves"])
    gone = [id for id, letter in zip(made, left, strict=True) if letter == " "]
    changes = store.changes
    assert list(await store.delete_surplus(keep, 50.0)) == gone
    assert {one.id for one in await store.builds(template.id)} == {*made} - {*gone}
    assert (store.changes > changes) == bool(gone)
    assert set(await store.removable()) == {*gone}
    assert await store.delete_surplus(keep, 51.0) == []
    # Each template has its own.
    assert [one.id for one in await store.builds(other.id)] == [beside.id]


@pytest.mark.parametrize(
    ("need", "kept"),
    [
        ("nothing", False),
        (S.CREATING, True),
        (S.RUNNING, True),
        (S.PAUSED, True),
        (S.ENDED, False),
        (SnapshotRole.SNAPSHOT, True),
        (SnapshotRole.TEMPLATE, False),
        ("deleted snapshot", False),
        ("app:{}", True),
        ("{}", True),
        ("default/app:{}", True),
        ("app", False),
        ("app:{}0", False),
    ],
)
async def test_what_is_needed_is_not_too_much(
    database: Database, store: SqlTemplates, project: Project, need: object, kept: bool
) -> None:
    template = new_template(project.id)
    old = await build_up(database, template)
    await build_up(database, template, at=5.0)
    source = new_sandbox(project.id, old.id)
    if isinstance(need, S):
        await bring(database, project.id, need, old.id)
    elif isinstance(need, SnapshotRole):
        await take(database, source, need)
    elif need == "deleted snapshot":
        await remove(database, await take(database, source))
    elif need != "nothing":
        name = str(need).format(old.id)
        await SqlPools(database).put(Pool(new_pool_id(), project.id, name, "gvisor", Resources(), 1, 1.0))
    before = await dump(database)
    assert list(await store.delete_surplus(0, 50.0)) == ([] if kept else [old.id])
    assert (await dump(database) == before) == kept


async def test_how_many_versions_a_project_may_have(database: Database, store: SqlTemplates, project: Project) -> None:
    template = new_template(project.id)
    first, second, _ = [await build_up(database, template, state=B.WAITING, at=float(at)) for at in range(3)]
    hidden = new_template(project.id, "image-1", hidden=True)
    await build_up(database, hidden)
    await build_up(database, template, state=B.FAILED)
    # Two are there: one ready, and one that goes on.
    await store.begin(first.id, None, None, 2)
    for work in (
        store.begin(second.id, None, None, 2),
        store.request(new_template(project.id, "more"), new_build(template), 2),
    ):
        before = await dump(database)
        with pytest.raises(LimitExceeded, match="may have 2 versions of templates; it has 2, those of images in code"):
            await work
        assert await dump(database) == before
    # Another project has its own, and one that failed makes room.
    theirs = (await SqlProjects(database).ensure(Project(new_project_id(), "Other"), 1.0)).id
    await store.request(new_template(theirs), new_build(replace(template, project_id=theirs)), 1)
    await store.fail(first.id, FAILURE, 9.0)
    await store.begin(second.id, None, None, 2)
    await store.finish(second.id, BUILT, 9.5)
    # What is deleted and needed counts until it goes.
    await store.delete(hidden.id, 10.0)
    with pytest.raises(LimitExceeded):
        await store.request(template, new_build(template), 2)
    for id in await store.removable():
        await store.remove(id)
    await store.request(template, new_build(template), 2)
    with pytest.raises(Conflict, match="deleted meanwhile"):
        await store.begin(new_build_id(), None, None, 1)
    with pytest.raises(NotFound, match="no project"):
        await store.request(new_template(new_project_id()), replace(new_build(template), project_id=theirs), 1)
