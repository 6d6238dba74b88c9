from __future__ import annotations

import asyncio

import pytest

from atolld.control.testing import SPEC, RecordedTelemetry, World, until
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.aio import spawn
from atolld.foundation.errors import (
    Capacity,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    NotFound,
    RuntimeUnusable,
    Unavailable,
)
from atolld.foundation.ids import SandboxId
from atolld.storage.store import SandboxQuery

S = SandboxState


def _create(world: World, key: str | None = None) -> asyncio.Task[Sandbox]:
    return spawn(world.sandboxes.create(world.project.id, SPEC, key), name="create", report=False)


async def _only(world: World) -> SandboxId:
    (row,) = await world.store.live()
    return row.id


async def _nothing_is_left(world: World) -> None:
    await until(lambda: not world.sandboxes.counts())
    assert await world.store.live() == []
    assert world.node.machine.sandboxes == {}


@pytest.mark.parametrize("refusal", [Capacity("full"), RuntimeUnusable("no kvm"), NotFound("no such runtime")])
async def test_a_refusal_leaves_no_row(world: World, telemetry: RecordedTelemetry, refusal: Exception) -> None:
    world.node.fail("launch", refusal)
    with pytest.raises(type(refusal)):
        await _create(world)
    await _nothing_is_left(world)
    listed = await world.store.list(SandboxQuery(world.project.id))
    assert listed == []
    assert telemetry.counted("sandbox_creates", runtime="fake", outcome=refusal.code) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("failure", [GuestUnreachable("silent"), Internal("broke"), OSError("io")])
async def test_a_failure_is_recorded_and_cleaned(world: World, failure: Exception) -> None:
    world.node.fail("launched", failure)
    with pytest.raises(type(failure), match=str(failure)):
        await _create(world)
    await _nothing_is_left(world)
    (listed,) = await world.store.list(SandboxQuery(world.project.id))
    row = listed.sandbox
    assert (row.state, row.end_reason, row.end_message) == (S.ENDED, EndReason.CREATE_FAILED, str(failure))
    # It never ran: nobody is told that it was created or killed, and nothing is charged.
    assert await world.events_of(row.id) == []
    assert list(await world.usage.list(world.project.id, 0, 1e12)) == []


@pytest.mark.parametrize("place", ["launch", "launched"])
async def test_a_caller_that_vanishes_leaves_nothing(world: World, place: str) -> None:
    gate = world.node.hold(place)
    creating = _create(world)
    await gate.reached.wait()
    id = await _only(world)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await _nothing_is_left(world)
    row = await world.row(id)
    assert (row.end_reason, row.end_message) == (
        EndReason.CREATE_FAILED,
        "its creator went away before it was ready",
    )


async def test_a_caller_that_vanishes_at_the_last_write_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_running = world.store.mark_running
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> None:
        reached.set()
        await opened.wait()
        await mark_running(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "mark_running", slow)
    creating = _create(world)
    await reached.wait()
    id = await _only(world)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    opened.set()
    row = await world.ended(id)
    assert (row.end_reason, world.node.machine.sandboxes) == (EndReason.CREATE_FAILED, {})


async def test_a_caller_that_vanishes_before_the_insert_leaves_nothing(world: World) -> None:
    creating = _create(world)
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    # Whatever was under way by then ends by itself: a second, uncancelled create is the barrier.
    kept = await world.create()
    await until(lambda: len(world.sandboxes.counts()) == 1)
    await until(lambda: list(world.node.machine.sandboxes) == [kept.id])


async def test_one_of_two_callers_may_vanish(world: World) -> None:
    gate = world.node.hold("launch")
    first, second = _create(world, "key"), _create(world, "key")
    await gate.reached.wait()
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.opened.set()
    assert (await second).state is S.RUNNING


async def test_a_retry_after_a_vanished_caller_makes_a_new_one(world: World) -> None:
    gate = world.node.hold("launch")
    first = _create(world, "key")
    await gate.reached.wait()
    id = await _only(world)
    first.cancel()
    second = _create(world, "key")
    gate.opened.set()
    made = await second
    assert made.id != id
    assert (await world.row(id)).end_reason is EndReason.CREATE_FAILED
    assert list(world.node.machine.sandboxes) == [made.id]


@pytest.mark.parametrize("place", ["launch", "launched"])
async def test_kill_during_create(world: World, place: str) -> None:
    gate = world.node.hold(place)
    creating = _create(world)
    await gate.reached.wait()
    id = await _only(world)
    first = spawn(world.sandboxes.kill(world.project.id, id), name="kill", report=False)
    second = spawn(world.sandboxes.kill(world.project.id, id), name="kill", report=False)
    with pytest.raises(FailedPrecondition, match="ended while it was starting: it was killed on request"):
        await creating
    await first
    with pytest.raises(NotFound):
        await second
    await _nothing_is_left(world)
    assert (await world.row(id)).end_reason is EndReason.KILLED


async def test_kill_while_the_last_row_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_running = world.store.mark_running
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> None:
        reached.set()
        await opened.wait()
        await mark_running(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "mark_running", slow)
    creating = _create(world)
    await reached.wait()
    id = await _only(world)
    killing = spawn(world.sandboxes.kill(world.project.id, id), name="kill", report=False)
    await asyncio.sleep(0)
    opened.set()
    assert (await creating).id == id
    await killing
    assert (await world.row(id)).end_reason is EndReason.KILLED
    assert [event.type for event in await world.events_of(id)] == ["sandbox.created", "sandbox.killed"]


async def test_death_between_launch_and_its_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = world.node.launch

    async def die_at_once(what: object) -> object:
        launched = await launch(what)  # type: ignore[arg-type]
        await world.node.die(next(iter(world.node.machine.sandboxes)), EndReason.OUT_OF_MEMORY, "too big")
        return launched

    monkeypatch.setattr(world.node, "launch", die_at_once)
    with pytest.raises(Internal, match="ended while it was starting: too big"):
        await _create(world)
    await _nothing_is_left(world)


async def test_a_database_that_fails_at_the_last_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = True
    mark_running, mark_stopping = world.store.mark_running, world.store.mark_stopping

    async def fail(*_: object) -> None:
        raise OSError("disk full")

    async def fail_while_broken(*args: object) -> None:
        if broken:
            raise OSError("disk full")
        await mark_stopping(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "mark_running", fail)
    monkeypatch.setattr(world.store, "mark_stopping", fail_while_broken)
    with pytest.raises(OSError, match="disk full") as caught:
        await _create(world)
    assert any("cleaning up failed" in note for note in caught.value.__notes__)
    # Its resources are gone although its row could not be written, and the row follows once it can.
    assert world.node.machine.sandboxes == {}
    id = await _only(world)
    broken = False
    await world.clock.advance(1.0)
    assert (await world.ended(id)).end_reason is EndReason.CREATE_FAILED
    monkeypatch.setattr(world.store, "mark_running", mark_running)
    assert (await _create(world)).state is S.RUNNING


async def test_a_row_that_was_written_although_the_database_said_it_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_running = world.store.mark_running

    async def lost_answer(*args: object) -> None:
        await mark_running(*args)  # type: ignore[arg-type]
        raise ConnectionError("server closed the connection")

    monkeypatch.setattr(world.store, "mark_running", lost_answer)
    with pytest.raises(ConnectionError):
        await _create(world)
    id = await _only(world)
    assert (await world.row(id)).state is S.RUNNING
    assert world.node.machine.sandboxes == {}
    await world.clock.advance(1.0)
    assert (await world.ended(id)).end_reason is EndReason.CREATE_FAILED


async def test_a_refusal_whose_row_cannot_be_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "discard", fail)
    world.node.fail("launch", Capacity("full"))
    with pytest.raises(Capacity):
        await _create(world)
    await _nothing_is_left(world)


async def test_killing_one_whose_cleaning_up_fails_is_told_so(world: World) -> None:
    gate = world.node.hold("launch")
    creating = _create(world)
    await gate.reached.wait()
    id = await _only(world)
    world.node.fail("terminate", OSError("busy"), OSError("busy"))
    with pytest.raises(Unavailable, match="could not be cleaned up yet"):
        await world.sandboxes.kill(world.project.id, id)
    with pytest.raises(FailedPrecondition):
        await creating
    await world.clock.advance(3.0)
    assert (await world.ended(id)).end_reason is EndReason.KILLED
