from __future__ import annotations

import asyncio

import pytest

from atolld.control.testing import RecordedTelemetry, World, until
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.foundation.aio import spawn
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import SandboxId

S = SandboxState


def _kill(world: World, id: SandboxId) -> asyncio.Task[None]:
    return spawn(world.sandboxes.kill(world.project.id, id), name="kill", report=False)


async def _killed_events(world: World, id: SandboxId) -> list[object]:
    return [event.data["reason"] for event in await world.events_of(id) if event.type == "sandbox.killed"]


async def test_two_kills_at_once(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("terminate")
    first = _kill(world, made.id)
    await gate.reached.wait()
    second = _kill(world, made.id)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    assert (await world.sandboxes.get(world.project.id, made.id)).state is S.STOPPING
    gate.opened.set()
    await first
    with pytest.raises(NotFound):
        await second
    assert await _killed_events(world, made.id) == ["killed"]
    assert [verb for verb, _ in world.node.calls].count("terminate") == 1


async def test_many_kills_in_the_same_moment(world: World) -> None:
    made = await world.create()
    results = await asyncio.gather(*(_kill(world, made.id) for _ in range(10)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["NotFound"] * 9
    assert await _killed_events(world, made.id) == ["killed"]


async def test_a_kill_goes_on_although_its_caller_vanishes(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("terminate")
    killing = _kill(world, made.id)
    await gate.reached.wait()
    killing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killing
    gate.opened.set()
    assert (await world.ended(made.id)).end_reason is EndReason.KILLED


async def test_a_caller_that_vanishes_during_the_decision(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()
    mark_stopping = world.store.mark_stopping
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> None:
        reached.set()
        await opened.wait()
        await mark_stopping(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "mark_stopping", slow)
    killing = _kill(world, made.id)
    await reached.wait()
    killing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killing
    opened.set()
    assert (await world.ended(made.id)).state is S.ENDED
    assert world.node.machine.sandboxes == {}


@pytest.mark.parametrize(
    ("reason", "message"), [(EndReason.OUT_OF_MEMORY, "used 600 MiB of 512"), (EndReason.CRASHED, "PID 1 left")]
)
async def test_death(world: World, telemetry: RecordedTelemetry, reason: EndReason, message: str) -> None:
    made = await world.create()
    await world.clock.advance(4)
    await world.node.die(made.id, reason, message)
    row = await world.row(made.id)
    assert (row.state, row.end_reason, row.end_message) == (S.ENDED, reason, message)
    killed = (await world.events_of(made.id))[-1]
    assert killed.data == {"reason": reason.value, "message": message, "ran_s": 4.0}
    assert telemetry.counted("sandbox_ends", runtime="fake", reason=reason.value) == 1
    with pytest.raises(NotFound):
        await world.sandboxes.kill(world.project.id, made.id)


async def test_death_during_a_kill_waits_for_nobody_and_changes_nothing(world: World) -> None:
    made = await world.create()
    gate = world.node.hold("terminate")
    killing = _kill(world, made.id)
    await gate.reached.wait()
    # Returns although the kill holds on: a node may call this from within its terminate.
    await world.node.die(made.id)
    gate.opened.set()
    await killing
    assert (await world.row(made.id)).end_reason is EndReason.KILLED
    assert await _killed_events(world, made.id) == ["killed"]


async def test_kill_while_a_death_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()
    mark_ended = world.store.mark_ended
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **kwargs: object) -> None:
        reached.set()
        await opened.wait()
        await mark_ended(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "mark_ended", slow)
    dying = spawn(world.node.die(made.id), name="die", report=False)
    await reached.wait()
    killing = _kill(world, made.id)
    opened.set()
    await dying
    with pytest.raises(NotFound):
        await killing
    assert await _killed_events(world, made.id) == ["crashed"]


async def test_expiry_ends_it_within_a_second(world: World, telemetry: RecordedTelemetry) -> None:
    made = await world.create(timeout_s=30)
    await world.clock.advance(29.5)
    assert world.sandboxes.endpoint(made.id) is not None
    await world.clock.advance(0.5)
    row = await world.ended(made.id)
    assert (row.end_reason, row.ended_at) == (EndReason.EXPIRED, made.expires_at)
    assert telemetry.observed["sandbox_expiry_delay_seconds"] == [(0.0, {})]


async def test_expiry_during_a_kill(world: World) -> None:
    made = await world.create(timeout_s=30)
    gate = world.node.hold("terminate")
    killing = _kill(world, made.id)
    await gate.reached.wait()
    await world.clock.advance(60)
    gate.opened.set()
    await killing
    assert await _killed_events(world, made.id) == ["killed"]


async def test_kill_during_an_expiry(world: World) -> None:
    made = await world.create(timeout_s=30)
    gate = world.node.hold("terminate")
    await world.clock.advance(30)
    await gate.reached.wait()
    killing = _kill(world, made.id)
    gate.opened.set()
    with pytest.raises(NotFound):
        await killing
    assert await _killed_events(world, made.id) == ["expired"]


async def test_a_renewal_that_is_written_first_wins_over_the_expiry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await world.create(timeout_s=30)
    set_expiry = world.store.set_expiry
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **kwargs: object) -> None:
        reached.set()
        await opened.wait()
        await set_expiry(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "set_expiry", slow)
    await world.clock.advance(29)
    renewing = spawn(world.sandboxes.set_timeout(world.project.id, made.id, 100), name="renew", report=False)
    await reached.wait()
    # The time is up while the renewal is being written; the expiry waits for it and then finds it not due.
    await world.clock.advance(2)
    opened.set()
    renewed = await renewing
    await world.clock.advance(50)
    assert (await world.sandboxes.get(world.project.id, made.id)).expires_at == renewed.expires_at
    await world.clock.advance(49)
    assert (await world.ended(made.id)).end_reason is EndReason.EXPIRED


async def test_an_expiry_that_is_decided_first_wins_over_the_renewal(world: World) -> None:
    made = await world.create(timeout_s=30)
    gate = world.node.hold("terminate")
    await world.clock.advance(30)
    await gate.reached.wait()
    with pytest.raises(NotFound):
        await world.sandboxes.set_timeout(world.project.id, made.id, 100)
    gate.opened.set()
    assert (await world.ended(made.id)).end_reason is EndReason.EXPIRED


async def test_a_node_that_cannot_end_it_is_asked_again(world: World, telemetry: RecordedTelemetry) -> None:
    made = await world.create()
    world.node.fail("terminate", OSError("busy"), OSError("still busy"))
    with pytest.raises(OSError, match="busy"):
        await world.sandboxes.kill(world.project.id, made.id)
    row = await world.row(made.id)
    assert (row.state, row.end_reason) == (S.STOPPING, EndReason.KILLED)
    assert telemetry.counted("sandbox_cleanup_failures", runtime="fake") == 1
    await world.clock.advance(1.0)
    assert (await world.row(made.id)).state is S.STOPPING
    await world.clock.advance(2.0)
    assert (await world.ended(made.id)).end_reason is EndReason.KILLED
    assert world.node.machine.sandboxes == {}


async def test_a_second_kill_tries_again_at_once(world: World) -> None:
    made = await world.create()
    world.node.fail("terminate", OSError("busy"))
    with pytest.raises(OSError, match="busy"):
        await world.sandboxes.kill(world.project.id, made.id)
    with pytest.raises(NotFound):
        await world.sandboxes.kill(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.ENDED
    await world.clock.advance(10.0)
    assert await _killed_events(world, made.id) == ["killed"]


async def test_a_death_that_cannot_be_recorded_is_recorded_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create()
    mark_ended = world.store.mark_ended

    async def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "mark_ended", fail)
    await world.node.die(made.id, EndReason.OUT_OF_MEMORY, "too big")
    assert (await world.row(made.id)).state is S.RUNNING
    monkeypatch.setattr(world.store, "mark_ended", mark_ended)
    await world.clock.advance(1.0)
    assert (await world.ended(made.id)).end_reason is EndReason.OUT_OF_MEMORY


async def test_an_expiry_that_cannot_be_written_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create(timeout_s=30)
    mark_stopping = world.store.mark_stopping
    failed = asyncio.Event()

    async def fail(*_: object) -> None:
        failed.set()
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "mark_stopping", fail)
    await world.clock.advance(30)
    await failed.wait()
    monkeypatch.setattr(world.store, "mark_stopping", mark_stopping)
    await until(lambda: len(world.sandboxes._ending.expiry) == 1)
    await world.clock.advance(1)
    assert (await world.ended(made.id)).end_reason is EndReason.EXPIRED


async def test_a_row_that_somebody_else_ended(world: World) -> None:
    made = await world.create()
    await world.store.mark_stopping(made.id, S.RUNNING, EndReason.SHUTDOWN, "by hand")
    with pytest.raises(Conflict):
        await world.sandboxes.kill(world.project.id, made.id)
    # Memory follows the row, so that the next kill can finish what was begun.
    assert (await world.sandboxes.get(world.project.id, made.id)).end_reason is EndReason.SHUTDOWN
    with pytest.raises(NotFound):
        await world.sandboxes.kill(world.project.id, made.id)
    assert (await world.row(made.id)).state is S.ENDED
    assert world.node.machine.sandboxes == {}


async def test_a_death_of_nobody_is_ignored(world: World) -> None:
    made = await world.create()
    await world.sandboxes.kill(world.project.id, made.id)
    world.node.machine.sandboxes[made.id] = None  # type: ignore[assignment]
    await world.node.die(made.id)
    assert (await world.row(made.id)).end_reason is EndReason.KILLED
