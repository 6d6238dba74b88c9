"""Snapshots and forks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.control.testing import SPEC, World, until
from atolld.core.lifecycle import SandboxState as S
from atolld.core.project import ProjectLimits
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind, SnapshotRole
from atolld.foundation.aio import spawn
from atolld.foundation.errors import (
    Capacity,
    FailedPrecondition,
    InvalidArgument,
    LimitExceeded,
    NotFound,
)


async def test_the_source_goes_on_and_others_start_from_it(world: World) -> None:
    made = await world.create()
    world.node.machine.sandboxes[made.id].memory = {"n": 1}
    snapshot = await world.sandboxes.snapshots.create(world.project.id, made.id, "before")
    assert (await world.row(made.id)).state is S.RUNNING
    assert not world.node.machine.sandboxes[made.id].standing
    world.node.machine.sandboxes[made.id].memory = {"n": 2}
    for name in (snapshot.id, "before"):
        other = await world.sandboxes.create(world.project.id, replace(SPEC, template=name))
        here = world.node.machine.sandboxes[other.id]
        assert here.memory == {"n": 1}
        assert here.agent_token == other.agent_token != made.agent_token
        assert here.hostname == other.id
        assert other.head_id == snapshot.id
    assert world.node.machine.sandboxes[made.id].memory == {"n": 2}


async def test_a_name_moves_to_the_newest(world: World) -> None:
    made = await world.create()
    first = await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
    await world.clock.advance(1)
    second = await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
    assert (await world.sandboxes.snapshots.get(world.project.id, "name")).id == second.id
    assert (await world.sandboxes.snapshots.get(world.project.id, first.id)).name is None
    assert second.parent_id == first.id
    page = await world.sandboxes.snapshots.list(world.project.id, limit=1)
    assert [item.id for item in page.items] == [second.id]
    assert page.next_cursor is not None
    rest = await world.sandboxes.snapshots.list(world.project.id, limit=1, cursor=page.next_cursor)
    assert ([item.id for item in rest.items], rest.next_cursor) == ([first.id], None)


@pytest.mark.parametrize("name", ["..", "a/../b", "A", "a\nb", "", "-a", "x" * 200, "s" + "a" * 19])
async def test_bad_names(world: World, name: str) -> None:
    made = await world.create()
    with pytest.raises(InvalidArgument):
        await world.sandboxes.snapshots.create(world.project.id, made.id, name)
    assert world.node.machine.saves == {}


async def test_deleted_is_gone_but_for_the_tree(world: World) -> None:
    made = await world.create()
    names = []
    for name in ("one", "two", "three"):
        names.append((await world.sandboxes.snapshots.create(world.project.id, made.id, name)).id)
    await world.sandboxes.snapshots.delete(world.project.id, "two")
    await until(lambda: set(world.node.machine.saves) == {names[0], names[2]})
    with pytest.raises(NotFound):
        await world.sandboxes.snapshots.get(world.project.id, "two")
    tree = await world.sandboxes.snapshots.tree(world.project.id, made.id)
    # All of one moment: the clock stands still here.
    assert {one.id: one.parent_id for one in tree} == {names[0]: None, names[1]: names[0], names[2]: names[1]}


async def test_what_fails_leaves_nothing(world: World) -> None:
    made = await world.create()
    for place in ("save", "saving", "saved"):
        world.node.fail(place, Capacity("the disk is full"))
        with pytest.raises(Capacity):
            await world.sandboxes.snapshots.create(world.project.id, made.id, "name")
        assert (await world.row(made.id)).state is S.RUNNING
        await until(lambda: world.node.machine.saves == {})
    assert (await world.sandboxes.snapshots.list(world.project.id)).items == []
    assert (await world.row(made.id)).head_id is None


async def test_quotas(world: World) -> None:
    made = await world.create()
    await world.projects.set_limits(world.project.id, ProjectLimits(max_snapshots=1))
    await world.sandboxes.snapshots.create(world.project.id, made.id)
    with pytest.raises(LimitExceeded):
        await world.sandboxes.snapshots.create(world.project.id, made.id)
    await world.projects.set_limits(world.project.id, ProjectLimits(max_saved_mib=1))
    with pytest.raises(LimitExceeded):
        await world.sandboxes.pause(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.RUNNING


async def test_a_paused_sandboxs_save_is_nobodys(world: World) -> None:
    made = await world.create()
    save = (await world.sandboxes.pause(world.project.id, made.id)).save_id
    assert save is not None
    with pytest.raises(NotFound):
        await world.sandboxes.snapshots.delete(world.project.id, save)
    with pytest.raises(NotFound):
        await world.sandboxes.create(world.project.id, replace(SPEC, template=save))
    with pytest.raises(FailedPrecondition, match="resume it first"):
        await world.sandboxes.snapshots.create(world.project.id, made.id)


async def test_a_fork_of_many(world: World) -> None:
    made = await world.create(run="1")
    world.node.machine.sandboxes[made.id].memory = {"n": 1}
    forks = await world.sandboxes.fork(world.project.id, made.id, 10, 60)
    sandboxes = [one for one in forks if isinstance(one, Sandbox)]
    assert len({one.id for one in sandboxes}) == 10
    assert len({one.agent_token for one in sandboxes} | {made.agent_token}) == 11
    for one in sandboxes:
        assert world.node.machine.sandboxes[one.id].memory == {"n": 1}
        assert (one.spec.metadata, one.expires_at) == ({"run": "1"}, world.clock.now() + 60)
    await until(lambda: world.node.machine.saves == {})
    roles = {SnapshotRole.FORK, SnapshotRole.SNAPSHOT}
    assert roles.isdisjoint({one.role for one in await world.sandboxes.snapshots.tree(world.project.id, made.id)})


async def test_a_fork_of_which_some_fail(world: World) -> None:
    made = await world.create()
    world.node.fail("launched", OSError("broken"), OSError("broken"))
    forks = await world.sandboxes.fork(world.project.id, made.id, 5)
    assert sum(isinstance(one, Sandbox) for one in forks) == 3
    assert len(world.node.machine.sandboxes) == 4
    await until(lambda: world.node.machine.saves == {})


@pytest.mark.parametrize("count", [0, 101, -1])
async def test_counts(world: World, count: int) -> None:
    made = await world.create()
    with pytest.raises(InvalidArgument):
        await world.sandboxes.fork(world.project.id, made.id, count)


async def test_a_snapshot_while_a_start_reads_it_can_be_deleted(world: World) -> None:
    made = await world.create()
    snapshot = await world.sandboxes.snapshots.create(world.project.id, made.id)
    gate = world.node.hold("launch")
    spec = replace(SPEC, template=snapshot.id)
    creating = spawn(world.sandboxes.create(world.project.id, spec), name="create")
    await gate.reached.wait()
    await world.sandboxes.snapshots.delete(world.project.id, snapshot.id)
    gate.opened.set()
    assert (await creating).state is S.RUNNING
    await until(lambda: world.node.machine.saves == {})


async def test_files_only(world: World) -> None:
    made = await world.create()
    here = world.node.machine.sandboxes[made.id]
    here.memory, here.files = {"n": 1}, {"/a": b"1"}
    snapshot = await world.sandboxes.snapshots.create(world.project.id, made.id, None, SaveKind.FILESYSTEM)
    other = await world.sandboxes.create(world.project.id, replace(SPEC, template=snapshot.id))
    here = world.node.machine.sandboxes[other.id]
    assert (here.memory, here.files) == ({}, {"/a": b"1"})
