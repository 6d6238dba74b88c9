"""Warm pools: filled, claimed, emptied, evicted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atolld.control.testing import BUILD_SPEC, SPEC, World, until
from atolld.control.warm import QUIET_S
from atolld.core.lifecycle import SandboxState as S
from atolld.core.network import NetworkPolicy
from atolld.core.project import Project, ProjectLimits
from atolld.core.sandbox import Resources
from atolld.foundation.aio import spawn
from atolld.foundation.errors import (
    Capacity,
    FailedPrecondition,
    GuestUnreachable,
    InvalidArgument,
    LimitExceeded,
    NotFound,
)
from atolld.foundation.ids import PoolId, SandboxId, new_project_id
from atolld.node.interface import Claim
from atolld.storage.projects import SqlProjects
from atolld.storage.store import SandboxQuery


async def _pool(world: World, ready: int = 2, resources: Resources | None = None) -> PoolId:
    status = await world.sandboxes.pools.set(world.project.id, "base", "fake", resources or Resources(), ready)
    await _warm(world, status.pool.id, ready)
    return status.pool.id


async def _warm(world: World, id: PoolId, count: int) -> None:
    for _ in range(10_000):
        if (await world.sandboxes.pools.get(world.project.id, id)).warm == count:
            return
        await asyncio.sleep(0)
    raise AssertionError("it was never filled")


async def test_a_claim_is_a_sandbox_like_any_other(world: World) -> None:
    id = await _pool(world)
    waiting = set(world.node.machine.sandboxes)
    assert all(one.frozen for one in world.node.machine.sandboxes.values())
    spec = replace(SPEC, envs={"A": "1"}, metadata={"run": "1"}, timeout_s=60, network=NetworkPolicy(internet=False))
    made = await world.sandboxes.create(world.project.id, spec)
    assert made.id in waiting
    assert world.sandboxes.was_warm(made.id)
    here = world.node.machine.sandboxes[made.id]
    assert not here.frozen
    assert (here.agent_token, here.envs, here.network.internet) == (made.agent_token, {"A": "1"}, False)
    assert (made.state, made.expires_at) == (S.RUNNING, world.clock.now() + 60)
    assert made == await world.row(made.id)
    assert [event.type.value for event in await world.events_of(made.id)] == ["sandbox.created"]
    status = await world.sandboxes.pools.get(world.project.id, id)
    assert (status.claims, status.misses) == (1, 0)
    await world.sandboxes.kill(world.project.id, made.id)
    assert len(world.node.machine.sandboxes) == 1


async def test_filled_again_when_nobody_takes_any_more(world: World) -> None:
    id = await _pool(world, 3)
    taken: list[int] = []
    for _ in range(3):
        await world.create()
        await world.clock.advance(QUIET_S / 2)
        taken.append(len(world.node.launches))
    assert taken == [3, 3, 3]
    await world.clock.advance(QUIET_S)
    await _warm(world, id, 3)


async def test_one_that_cannot_stand_by_is_ended_and_another_made(world: World) -> None:
    world.node.fail("stand_by", NotFound("it has died"))
    status = await world.sandboxes.pools.set(world.project.id, "base", "fake", Resources(), 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not world.node.machine.sandboxes
    await world.clock.advance(2)
    await _warm(world, status.pool.id, 1)
    assert len(world.node.launches) == 2 and len(world.node.machine.sandboxes) == 1


async def test_filled_at_last_although_they_are_taken_all_the_time(world: World) -> None:
    await _pool(world, 20)
    for _ in range(20):
        await world.create()
        await world.clock.advance(QUIET_S / 2)
    assert len(world.node.launches) > 20


async def test_an_empty_pool_is_an_ordinary_create(world: World) -> None:
    id = await _pool(world, 1)
    gate = world.node.hold("launch")
    first = await world.create()
    creating = spawn(world.create(), name="create")
    await until(lambda: len(world.node.launches) == 2)
    gate.opened.set()
    second = await creating
    assert (world.sandboxes.was_warm(first.id), world.sandboxes.was_warm(second.id)) == (True, False)
    status = await world.sandboxes.pools.get(world.project.id, id)
    assert (status.claims, status.misses) == (1, 1)


@pytest.mark.parametrize(
    ("resources", "warm"),
    [
        (Resources(), True),
        (Resources(cpu=0.5), True),
        (Resources(cpu=2), True),
        (Resources(cpu=3), False),
        (Resources(memory_mib=1024), False),
        (Resources(disk_mib=2048), False),
        (Resources(pids_max=64), False),
    ],
)
async def test_what_a_claim_may_choose(world: World, resources: Resources, warm: bool) -> None:
    await _pool(world, 1)
    made = await world.sandboxes.create(world.project.id, replace(SPEC, resources=resources))
    assert world.sandboxes.was_warm(made.id) is warm
    assert made.spec.resources == resources
    assert world.node.machine.sandboxes[made.id].cpu == resources.cpu


async def test_another_projects_pool_is_not_seen(world: World) -> None:
    await _pool(world, 1)
    other = await SqlProjects(world.database).ensure(Project(new_project_id(), "other"), 1.0)
    made = await world.sandboxes.create(other.id, SPEC)
    assert not world.sandboxes.was_warm(made.id)


async def test_resized_and_deleted(world: World) -> None:
    id = await _pool(world, 3)
    again = await world.sandboxes.pools.set(world.project.id, "base", "fake", Resources(), 1)
    assert again.pool.id == id
    await _warm(world, id, 1)
    assert len(world.node.machine.sandboxes) == 1
    await world.sandboxes.pools.delete(world.project.id, id)
    assert world.node.machine.sandboxes == {}
    with pytest.raises(NotFound):
        await world.sandboxes.pools.get(world.project.id, id)


async def test_one_that_died_is_replaced(world: World) -> None:
    id = await _pool(world, 1)
    (waiting,) = world.node.machine.sandboxes
    await world.node.die(waiting)
    await _warm(world, id, 1)
    assert waiting not in world.node.machine.sandboxes


async def test_one_that_does_not_answer_is_ended_and_another_taken(world: World) -> None:
    await _pool(world, 2)
    world.node.fail("claim", GuestUnreachable("no answer"))
    made = await world.create()
    assert world.sandboxes.was_warm(made.id)
    live = (await world.sandboxes.list(world.project.id)).items
    assert [item.id for item in live] == [made.id]


async def test_one_that_does_not_answer_leaves_no_row_and_the_key_free(world: World) -> None:
    await _pool(world, 1)
    (waiting,) = world.node.machine.sandboxes
    world.node.fail("claim", GuestUnreachable("no answer"))
    made = await world.sandboxes.create(world.project.id, SPEC, "key")
    assert not world.sandboxes.was_warm(made.id)
    rows = await world.store.list(SandboxQuery(world.project.id))
    assert [row.sandbox.id for row in rows] == [made.id]
    assert waiting not in world.node.machine.sandboxes
    assert (await world.sandboxes.create(world.project.id, SPEC, "key")).id == made.id


@pytest.mark.parametrize("claimed", [False, True])
async def test_one_that_dies_while_it_is_claimed_is_not_handed_out(
    world: World, claimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _pool(world, 1)
    (waiting,) = world.node.machine.sandboxes
    claim = world.node.claim

    async def dying(id: SandboxId, what: Claim) -> None:
        if claimed:
            await claim(id, what)
        await world.node.die(id)
        if not claimed:
            await claim(id, what)

    monkeypatch.setattr(world.node, "claim", dying)
    made = await world.create()
    assert made.id != waiting
    assert list(world.node.machine.sandboxes) == [made.id]
    assert [row.sandbox.id for row in await world.store.list(SandboxQuery(world.project.id))] == [made.id]


async def test_one_that_is_claimed_can_be_killed_meanwhile(world: World) -> None:
    await _pool(world, 1)
    (waiting,) = world.node.machine.sandboxes
    gate = world.node.hold("claim")
    create = spawn(world.create(), name="create", report=False)
    await gate.reached.wait()
    assert (await world.sandboxes.get(world.project.id, waiting)).state is S.CREATING
    kill = spawn(world.sandboxes.kill(world.project.id, waiting), name="kill")
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(FailedPrecondition):
        await create
    await kill
    assert waiting not in world.node.machine.sandboxes


async def test_a_limit_holds_for_claims(world: World) -> None:
    await _pool(world, 2)
    await world.projects.set_limits(world.project.id, ProjectLimits(max_sandboxes=1))
    await world.create()
    with pytest.raises(LimitExceeded):
        await world.create()
    assert len((await world.sandboxes.list(world.project.id)).items) == 1


async def test_never_past_the_machine_and_no_one_waits_for_it(world: World) -> None:
    world.node.max_sandboxes = 3
    status = await world.sandboxes.pools.set(world.project.id, "base", "fake", Resources(), 10)
    await _warm(world, status.pool.id, 3)
    for _ in range(100):
        await asyncio.sleep(0)
    status = await world.sandboxes.pools.get(world.project.id, status.pool.id)
    assert status.message is not None
    # Another size than the pool's: it takes the place of one that merely waits.
    made = await world.sandboxes.create(world.project.id, replace(SPEC, resources=Resources(memory_mib=128)))
    assert not world.sandboxes.was_warm(made.id)
    assert len(world.node.machine.sandboxes) == 3
    for _ in range(2):
        await world.create()
    with pytest.raises(Capacity):
        await world.sandboxes.create(world.project.id, replace(SPEC, resources=Resources(memory_mib=128)))


async def test_a_restart_fills_anew(world: World) -> None:
    await _pool(world, 2)
    before = set(world.node.machine.sandboxes)
    after = await world.restart()
    try:
        (status,) = await after.sandboxes.pools.list(after.project.id)
        await _warm(after, status.pool.id, 2)
        assert before.isdisjoint(after.node.machine.sandboxes)
    finally:
        await after.close()


@pytest.mark.parametrize("ready", [-1, 1001])
async def test_bad_sizes(world: World, ready: int) -> None:
    with pytest.raises(InvalidArgument):
        await world.sandboxes.pools.set(world.project.id, "base", "fake", Resources(), ready)


@pytest.mark.parametrize(("template", "runtime"), [("missing", "fake"), ("base", "missing")])
async def test_of_what_is_not_there(world: World, template: str, runtime: str) -> None:
    with pytest.raises(NotFound):
        await world.sandboxes.pools.set(world.project.id, template, runtime, Resources(), 1)


async def _template_pool(world: World, template: str) -> PoolId:
    resources = BUILD_SPEC.resources
    status = await world.sandboxes.pools.set(world.project.id, template, "fake", resources, 2)
    await _warm(world, status.pool.id, 2)
    return status.pool.id


@pytest.mark.parametrize("memory", [None, {"served": 3}])
async def test_a_template_by_any_of_its_names(world: World, memory: dict[str, object] | None) -> None:
    build = await world.build("app", "default", "v1", memory=memory)
    id = await _template_pool(world, "app")
    for name in ("app", "app:v1", build.id, build.template_id):
        spec = replace(SPEC, template=name, resources=BUILD_SPEC.resources, envs={"A": "mine"})
        made = await world.sandboxes.create(world.project.id, spec)
        assert world.sandboxes.was_warm(made.id)
        assert (made.build_id, made.template_name, made.head_id) == (build.id, "app", None)
        here = world.node.machine.sandboxes[made.id]
        assert (here.memory, here.envs["A"]) == (memory or {}, "mine")
        await world.clock.advance(QUIET_S)
        await _warm(world, id, 2)


async def test_what_waits_is_of_the_version_that_the_name_means_now(world: World) -> None:
    project = world.project.id
    first = await world.build("app", "default", "v1")
    id = await _template_pool(world, "app")
    waiting = set(world.node.machine.sandboxes)
    await world.clock.advance(1)
    gate = world.node.hold("launch")
    second = await world.build("app")
    spec = replace(SPEC, template="app", resources=BUILD_SPEC.resources)
    creating = spawn(world.sandboxes.create(project, spec), name="create")
    # The pool makes one of the new version, and the create one of its own since it found none.
    await until(lambda: not waiting & set(world.node.machine.sandboxes) and gate.arrivals == 2)
    gate.opened.set()
    made = await creating
    # Never an old one, not even in the moment before those are ended.
    assert (world.sandboxes.was_warm(made.id), made.build_id) == (False, second.id)
    await _warm(world, id, 2)
    assert (await world.sandboxes.create(project, spec)).build_id == second.id
    await world.registry.tags.assign(project, "app:v1", ["default"])
    assert (await world.sandboxes.create(project, spec)).build_id == first.id


async def test_a_pool_of_a_deleted_template_waits_for_the_next_one(world: World) -> None:
    project = world.project.id
    build = await world.build("app", memory={"served": 3})
    id = await _template_pool(world, "app")
    await world.registry.records.delete(project, "app")
    # It holds neither sandboxes nor layers.
    await until(lambda: not world.node.machine.sandboxes)
    await until(lambda: not world.registry.pins.pinned and not world.node.machine.saves)
    status = await world.sandboxes.pools.get(project, id)
    assert (status.warm, status.message) == (
        0,
        "there is no template 'app', and no snapshot of that name or id either",
    )
    again = await world.build("app")
    assert again.template_id != build.template_id
    await world.clock.advance(60)
    await _warm(world, id, 2)
    assert (await world.sandboxes.pools.get(project, id)).message is None
