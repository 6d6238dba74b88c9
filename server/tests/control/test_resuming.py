"""Waking, rolling back, and what recovery makes of what was interrupted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.control.testing import SPEC, World, until
from atolld.core.lifecycle import SandboxState as S
from atolld.core.policy import LifecyclePolicy
from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound


async def test_a_touch_wakes_a_paused_one(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    endpoint = world.sandboxes.endpoint(made.id)
    assert endpoint is not None
    assert (endpoint.state, endpoint.address) == (S.PAUSED, "")
    assert world.sandboxes.by_token(made.agent_token) == made.id
    woken = await world.sandboxes.wake(made.id)
    assert woken is not None
    assert (woken.state, woken.address) == (S.RUNNING, (await world.row(made.id)).address)


async def test_one_that_is_not_to_be_woken_stays_paused(world: World) -> None:
    spec = replace(SPEC, lifecycle=LifecyclePolicy(auto_resume=False))
    made = await world.sandboxes.create(world.project.id, spec)
    await world.sandboxes.pause(world.project.id, made.id)
    assert await world.sandboxes.wake(made.id) is None
    assert (await world.row(made.id)).state is S.PAUSED
    assert (await world.sandboxes.connect(world.project.id, made.id))[1]


async def test_a_touch_during_a_pause_waits_for_it(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("saving")
    pausing = spawn(world.sandboxes.pause(world.project.id, made.id), name="pause")
    await gate.reached.wait()
    waking = spawn(world.sandboxes.wake(made.id), name="wake")
    gate.opened.set()
    await pausing
    woken = await waking
    assert woken is not None
    assert woken.state is S.RUNNING
    assert (await world.row(made.id)).state is S.RUNNING


async def test_waking_has_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.control.resuming.WAKE_DEADLINE_S", 0.01)
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    gate = world.node.hold("launch")
    with pytest.raises(DeadlineExceeded):
        await world.sandboxes.wake(made.id)
    gate.opened.set()
    await until(lambda: made.id in world.node.machine.sandboxes)


async def test_nobody_can_be_woken_who_is_not_there(world: World) -> None:
    made = await world.create()
    await world.sandboxes.kill(world.project.id, made.id)
    assert await world.sandboxes.wake(made.id) is None


async def test_it_gets_its_address_again(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    assert (await world.sandboxes.resume(world.project.id, made.id)).address == made.address


async def test_timeouts_of_a_resume(world: World) -> None:
    made = await world.create(timeout_s=100)
    for given, expected in ((50, 50), (None, None)):
        await world.sandboxes.pause(world.project.id, made.id)
        await world.clock.advance(1000)
        back = await world.sandboxes.resume(world.project.id, made.id, given)
        assert back.expires_at == (None if expected is None else world.clock.now() + expected)
    with pytest.raises(InvalidArgument):
        await world.sandboxes.resume(world.project.id, made.id, 0) if False else await world.sandboxes.connect(
            world.project.id, made.id, 0
        )


async def test_its_files_without_its_memory(world: World) -> None:
    made = await world.create()
    here = world.node.machine.sandboxes[made.id]
    here.memory, here.files = {"n": 1}, {"/a": b"1"}
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.resume(world.project.id, made.id, kind=SaveKind.FILESYSTEM)
    here = world.node.machine.sandboxes[made.id]
    assert (here.memory, here.files) == ({}, {"/a": b"1"})


async def test_rolled_back_from_every_state_that_may(world: World) -> None:
    made = await world.create()
    world.node.machine.sandboxes[made.id].memory = {"n": 1}
    snapshot = await world.sandboxes.snapshots.create(world.project.id, made.id, "one")
    for state in ("running", "frozen", "paused"):
        world.node.machine.sandboxes[made.id].memory = {"n": 2}
        if state == "frozen":
            await world.sandboxes.freeze(world.project.id, made.id)
        if state == "paused":
            await world.sandboxes.pause(world.project.id, made.id)
        back = await world.sandboxes.rollback(world.project.id, made.id, "one")
        assert (back.id, back.agent_token, back.address, back.state) == (
            made.id,
            made.agent_token,
            made.address,
            S.RUNNING,
        )
        assert world.node.machine.sandboxes[made.id].memory == {"n": 1}
        assert back.head_id == snapshot.id
    await until(lambda: list(world.node.machine.saves) == [snapshot.id])


async def test_a_rollback_that_fails_leaves_it_paused_at_the_snapshot(world: World) -> None:
    made = await world.create()
    snapshot = await world.sandboxes.snapshots.create(world.project.id, made.id, "one")
    world.node.fail("launch", OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await world.sandboxes.rollback(world.project.id, made.id, snapshot.id)
    row = await world.row(made.id)
    assert (row.state, row.save_id) == (S.PAUSED, snapshot.id)
    # Its files are needed although the snapshot is deleted.
    await world.sandboxes.snapshots.delete(world.project.id, snapshot.id)
    assert (await world.sandboxes.resume(world.project.id, made.id)).state is S.RUNNING


async def test_no_rollback_to_another_tree(world: World) -> None:
    one, other = await world.create(), await world.create()
    snapshot = await world.sandboxes.snapshots.create(world.project.id, other.id)
    with pytest.raises(FailedPrecondition, match="another sandbox"):
        await world.sandboxes.rollback(world.project.id, one.id, snapshot.id)
    with pytest.raises(NotFound):
        await world.sandboxes.rollback(world.project.id, one.id, "nothing")


async def test_a_restart_finds_the_paused_and_the_frozen(world: World) -> None:
    paused, frozen, running = await world.create(), await world.create(), await world.create()
    world.node.machine.sandboxes[paused.id].memory = {"n": 1}
    await world.sandboxes.pause(world.project.id, paused.id)
    await world.sandboxes.freeze(world.project.id, frozen.id)
    after = await world.restart()
    try:
        states = [(await after.row(one.id)).state for one in (paused, frozen, running)]
        assert states == [S.PAUSED, S.FROZEN, S.RUNNING]
        assert after.node.machine.sandboxes[frozen.id].frozen
        assert (await after.sandboxes.wake(frozen.id)) is not None
        await after.sandboxes.resume(after.project.id, paused.id)
        assert after.node.machine.sandboxes[paused.id].memory == {"n": 1}
    finally:
        await after.close()
