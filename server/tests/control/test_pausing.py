"""Pausing and freezing: every way it can go, and what is left of each."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from atolld.control.testing import SPEC, RecordedTelemetry, World, until
from atolld.core.event import EventType
from atolld.core.lifecycle import EndReason
from atolld.core.lifecycle import SandboxState as S
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.errors import Capacity, FailedPrecondition, Internal, NotFound
from atolld.runtime.driver import Power


def _state(world: World, made: Sandbox) -> S | None:
    endpoint = world.sandboxes.endpoint(made.id)
    return None if endpoint is None else endpoint.state


async def _types(world: World, made: Sandbox) -> list[str]:
    return [event.type.value.removeprefix("sandbox.") for event in await world.events_of(made.id)]


async def test_a_pause_frees_the_memory_and_keeps_all_else(world: World) -> None:
    made = await world.create(run="7")
    paused = await world.sandboxes.pause(world.project.id, made.id)
    assert paused == await world.row(made.id) == await world.sandboxes.get(world.project.id, made.id)
    assert (paused.state, paused.address, paused.expires_at) == (S.PAUSED, None, None)
    assert (paused.agent_token, paused.spec.metadata) == (made.agent_token, {"run": "7"})
    assert world.node.machine.sandboxes == {}
    assert list(world.node.machine.saves) == [paused.save_id]
    assert await _types(world, made) == ["created", "paused"]
    page = await world.sandboxes.list(world.project.id)
    assert [item.state for item in page.items] == [S.PAUSED]
    assert page.total_running == 0


async def test_where_the_time_went_is_told(world: World, telemetry: RecordedTelemetry) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.resume(world.project.id, made.id)
    told = {
        name: [labels["phase"] for _, labels in telemetry.observed[f"sandbox_{name}_phase_seconds"]]
        for name in ("pause", "resume")
    }
    assert told == {"pause": ["publish", "free"], "resume": ["clear", "prepare", "start", "publish"]}


@pytest.mark.parametrize("times", [1, 5])
async def test_it_comes_back_as_it_was_every_time(world: World, times: int) -> None:
    made = await world.create()
    here = world.node.machine.sandboxes[made.id]
    here.memory, here.files = {"n": 1}, {"/a": b"1"}
    for count in range(2, times + 2):
        await world.sandboxes.pause(world.project.id, made.id)
        back = await world.sandboxes.resume(world.project.id, made.id)
        here = world.node.machine.sandboxes[made.id]
        assert (here.memory, here.files) == ({"n": count - 1}, {"/a": str(count - 1).encode()})
        assert (back.state, back.id, back.agent_token, back.started_at) == (
            S.RUNNING,
            made.id,
            made.agent_token,
            made.started_at,
        )
        assert here.agent_token == made.agent_token
        here.memory, here.files = {"n": count}, {"/a": str(count).encode()}
    await until(lambda: len(world.node.machine.saves) == 1)
    assert back.expires_at == world.clock.now() + 300


async def test_pausing_twice_and_resuming_twice(world: World) -> None:
    made = await world.create()
    first, second = await asyncio.gather(
        world.sandboxes.pause(world.project.id, made.id),
        world.sandboxes.pause(world.project.id, made.id),
        return_exceptions=True,
    )
    assert isinstance(first, Sandbox)
    assert isinstance(second, FailedPrecondition)
    assert second.details["state"] == "paused"
    results = await asyncio.gather(*(world.sandboxes.connect(world.project.id, made.id, 60) for _ in range(20)))
    assert all(sandbox.state is S.RUNNING and resumed for sandbox, resumed in results)
    assert [verb for verb, _ in world.node.calls].count("launch") == 2
    with pytest.raises(FailedPrecondition, match="running already"):
        await world.sandboxes.resume(world.project.id, made.id)
    assert (await world.sandboxes.connect(world.project.id, made.id, 30))[1] is False


@pytest.mark.parametrize("place", ["save", "saving", "saved"])
@pytest.mark.parametrize("error", [Capacity("the disk is full"), FailedPrecondition("a file is open"), OSError()])
async def test_what_cannot_be_saved_goes_on(world: World, place: str, error: Exception) -> None:
    made = await world.create()
    world.node.fail(place, error)
    with pytest.raises(type(error)):
        await world.sandboxes.pause(world.project.id, made.id)
    row = await world.row(made.id)
    assert (row.state, row.pending_save_id, row.address) == (S.RUNNING, None, made.address)
    assert row.expires_at == made.expires_at
    assert not world.node.machine.sandboxes[made.id].standing
    await until(lambda: world.node.machine.saves == {})
    assert (await _types(world, made))[-1] == "pause_failed"
    # Its time still comes, and the next pause works.
    await world.sandboxes.pause(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.PAUSED


async def test_an_earlier_save_outlives_a_failed_one(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.resume(world.project.id, made.id)
    kept = (await world.row(made.id)).save_id
    world.node.fail("saving", Capacity("the disk is full"))
    with pytest.raises(Capacity):
        await world.sandboxes.pause(world.project.id, made.id)
    await until(lambda: list(world.node.machine.saves) == [kept])


@pytest.mark.parametrize("verb", ["save", "saving"])
async def test_killed_while_it_is_paused(world: World, verb: str) -> None:
    made = await world.create()
    gate = world.node.hold(verb)
    pausing = spawn(world.sandboxes.pause(world.project.id, made.id), name="pause", report=False)
    await gate.reached.wait()
    killing = spawn(world.sandboxes.kill(world.project.id, made.id), name="kill")
    await until(lambda: world.node.machine.sandboxes == {})
    gate.opened.set()
    with pytest.raises(NotFound):
        await pausing
    await killing
    assert (await world.row(made.id)).end_reason is EndReason.KILLED
    await until(lambda: world.node.machine.saves == {})
    assert (await _types(world, made))[-1] == "killed"


async def test_killed_when_paused(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    await world.sandboxes.kill(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.ENDED
    await until(lambda: world.node.machine.saves == {})


async def test_killed_while_it_comes_back(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    gate = world.node.hold("launch")
    resuming = spawn(world.sandboxes.resume(world.project.id, made.id), name="resume", report=False)
    await gate.reached.wait()
    killing = spawn(world.sandboxes.kill(world.project.id, made.id), name="kill")
    await until(lambda: _state(world, made) is None)
    gate.opened.set()
    with pytest.raises((FailedPrecondition, NotFound)):
        await resuming
    await killing
    assert (await world.row(made.id)).end_reason is EndReason.KILLED
    await until(lambda: world.node.machine.sandboxes == {} and world.node.machine.saves == {})


@pytest.mark.parametrize("place", ["launch", "launched"])
async def test_one_that_does_not_come_back_is_paused_with_its_save(world: World, place: str) -> None:
    made = await world.create()
    world.node.machine.sandboxes[made.id].memory = {"n": 1}
    await world.sandboxes.pause(world.project.id, made.id)
    world.node.fail(place, Internal("the runtime refused"))
    with pytest.raises(Internal):
        await world.sandboxes.resume(world.project.id, made.id)
    row = await world.row(made.id)
    assert (row.state, row.address) == (S.PAUSED, None)
    assert world.node.machine.sandboxes == {}
    await world.sandboxes.resume(world.project.id, made.id)
    assert world.node.machine.sandboxes[made.id].memory == {"n": 1}


async def test_waiting_callers_share_a_failure(world: World) -> None:
    made = await world.create()
    await world.sandboxes.pause(world.project.id, made.id)
    world.node.fail("launch", Capacity("no room"))
    results = await asyncio.gather(
        *(world.sandboxes.connect(world.project.id, made.id) for _ in range(50)), return_exceptions=True
    )
    assert all(isinstance(result, Capacity) for result in results)
    assert [verb for verb, _ in world.node.calls].count("launch") == 2


async def test_dies_while_it_is_saved(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("saving")
    pausing = spawn(world.sandboxes.pause(world.project.id, made.id), name="pause", report=False)
    await gate.reached.wait()
    await world.node.die(made.id, EndReason.OUT_OF_MEMORY)
    gate.opened.set()
    with pytest.raises(NotFound):
        await pausing
    assert (await world.ended(made.id)).end_reason is EndReason.OUT_OF_MEMORY
    await until(lambda: world.node.machine.saves == {})


async def test_a_caller_that_goes_away_changes_nothing(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("saving")
    pausing = spawn(world.sandboxes.pause(world.project.id, made.id), name="pause")
    await gate.reached.wait()
    pausing.cancel()
    gate.opened.set()
    await until(lambda: world.node.machine.sandboxes == {})
    assert (await world.row(made.id)).state is S.PAUSED


async def test_paused_at_its_time(world: World) -> None:
    spec = replace(SPEC, timeout_s=30, lifecycle=LifecyclePolicy(on_timeout=OnTimeout.PAUSE))
    made = await world.sandboxes.create(world.project.id, spec)
    await world.clock.advance(31)
    await until(lambda: world.node.machine.sandboxes == {})
    row = await world.row(made.id)
    assert row.state is S.PAUSED
    events = await world.events_of(made.id)
    assert (events[-1].type, events[-1].data["reason"]) == (EventType.PAUSED, "timeout")


async def test_one_that_cannot_be_saved_at_its_time_is_not_ended(world: World) -> None:
    spec = replace(SPEC, timeout_s=30, lifecycle=LifecyclePolicy(on_timeout=OnTimeout.PAUSE))
    made = await world.sandboxes.create(world.project.id, spec)
    world.node.fail("save", FailedPrecondition("a deleted file is open"))
    await world.clock.advance(31)
    await until(lambda: not world.node.failures["save"])
    await until(lambda: _state(world, made) is S.RUNNING)
    await world.clock.advance(31)
    await until(lambda: world.node.machine.sandboxes == {})
    assert (await world.row(made.id)).state is S.PAUSED


@pytest.mark.parametrize("power", [Power.CHECKPOINT, Power.FREEZE])
async def test_a_runtime_that_cannot_says_so_beforehand(world: World, power: Power) -> None:
    world.node.missing[power] = "it shares the host's kernel"
    made = await world.create()
    with pytest.raises(FailedPrecondition, match="shares the host's kernel"):
        if power is Power.CHECKPOINT:
            await world.sandboxes.pause(world.project.id, made.id)
        else:
            await world.sandboxes.freeze(world.project.id, made.id)
    assert await _types(world, made) == ["created"]
    paused = await world.sandboxes.pause(world.project.id, made.id, SaveKind.FILESYSTEM)
    assert paused.state is S.PAUSED


@pytest.mark.parametrize(
    "policy",
    [
        LifecyclePolicy(on_timeout=OnTimeout.PAUSE),
        LifecyclePolicy(idle_timeout_s=10, pause_after_s=10),
    ],
)
async def test_a_policy_that_cannot_be_kept_is_refused_at_the_create(world: World, policy: LifecyclePolicy) -> None:
    world.node.missing[Power.CHECKPOINT] = "it shares the host's kernel"
    with pytest.raises(FailedPrecondition, match="keep_memory"):
        await world.sandboxes.create(world.project.id, replace(SPEC, lifecycle=policy))
    assert world.node.machine.sandboxes == {}
    await world.sandboxes.create(world.project.id, replace(SPEC, lifecycle=replace(policy, keep_memory=False)))


async def test_frozen_and_woken(world: World) -> None:
    made = await world.create()
    frozen = await world.sandboxes.freeze(world.project.id, made.id)
    assert (frozen.state, frozen.address) == (S.FROZEN, made.address)
    assert world.node.machine.sandboxes[made.id].frozen
    assert await world.sandboxes.freeze(world.project.id, made.id) == frozen
    endpoint = await world.sandboxes.wake(made.id)
    assert endpoint is not None
    assert (endpoint.state, endpoint.address) == (S.RUNNING, made.address)
    assert not world.node.machine.sandboxes[made.id].frozen
    assert await _types(world, made) == ["created", "frozen", "thawed"]


async def test_a_frozen_one_can_be_paused_killed_and_expires(world: World) -> None:
    for what in ("pause", "kill", "expire"):
        made = await world.create(timeout_s=60)
        await world.sandboxes.freeze(world.project.id, made.id)
        if what == "pause":
            await world.sandboxes.pause(world.project.id, made.id)
            assert (await world.row(made.id)).state is S.PAUSED
            await world.sandboxes.kill(world.project.id, made.id)
        elif what == "kill":
            await world.sandboxes.kill(world.project.id, made.id)
        else:
            await world.clock.advance(61)
            assert (await world.ended(made.id)).end_reason is EndReason.EXPIRED
        assert world.node.machine.sandboxes == {}


async def test_a_freeze_that_fails_leaves_it_running(world: World) -> None:
    made = await world.create()
    world.node.fail("freeze", OSError("no freezer"))
    with pytest.raises(OSError, match="no freezer"):
        await world.sandboxes.freeze(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.RUNNING
    endpoint = world.sandboxes.endpoint(made.id)
    assert endpoint is not None
    assert endpoint.state is S.RUNNING
