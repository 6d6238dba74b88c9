"""What is done with sandboxes that nobody uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from atolld.control.testing import PATIENCE_S, SPEC, World, until
from atolld.core.lifecycle import SandboxState as S
from atolld.core.policy import LifecyclePolicy, OnIdle
from atolld.core.sandbox import Sandbox
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Usage


@dataclass
class FakeActivity:
    """Implements `Activity` by hand."""

    in_flight: set[SandboxId] = field(default_factory=set)
    ended: dict[SandboxId, float] = field(default_factory=dict)

    def busy(self, id: SandboxId, /) -> bool:
        return id in self.in_flight

    def idle_since(self, id: SandboxId, /) -> float | None:
        return self.ended.get(id)

    def forget(self, id: SandboxId, /) -> None:
        self.ended.pop(id, None)


@pytest.fixture
def activity() -> FakeActivity:
    return FakeActivity()


@pytest.fixture
async def idle_world(tmp_path: Path, activity: FakeActivity) -> AsyncIterator[World]:
    world = await World.open(tmp_path / "atoll.db", clock=ManualClock(), activity=activity)
    yield world
    await world.close()


async def _made(world: World, policy: LifecyclePolicy) -> Sandbox:
    return await world.sandboxes.create(world.project.id, replace(SPEC, timeout_s=None, lifecycle=policy))


async def _pass(world: World, seconds: int) -> None:
    for _ in range(seconds):
        await world.clock.advance(1)
        for _ in range(50):
            await asyncio.sleep(0)


async def _settled(world: World, sandbox: Sandbox) -> None:
    """Wait until `sandbox` runs again. A manual clock does not wait for the database: "20 s later" could be before a
    failed pause was undone."""
    async with asyncio.timeout(PATIENCE_S):
        while (await world.row(sandbox.id)).state is not S.RUNNING:
            pass


async def test_frozen_then_paused_then_woken(idle_world: World) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=10, pause_after_s=20))
    await _pass(idle_world, 9)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    await _pass(idle_world, 3)
    await until(lambda: idle_world.node.machine.sandboxes[made.id].frozen)
    await _pass(idle_world, 22)
    await until(lambda: made.id not in idle_world.node.machine.sandboxes)
    assert (await idle_world.row(made.id)).state is S.PAUSED
    assert await idle_world.sandboxes.wake(made.id) is not None
    assert (await idle_world.row(made.id)).state is S.RUNNING


async def test_paused_at_once(idle_world: World) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=10, on_idle=OnIdle.PAUSE))
    await _pass(idle_world, 12)
    await until(lambda: made.id not in idle_world.node.machine.sandboxes)
    events = await idle_world.events_of(made.id)
    assert events[-1].data["reason"] == "idle"


async def test_one_that_is_used_is_let_alone(idle_world: World, activity: FakeActivity) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=10))
    activity.in_flight.add(made.id)
    await _pass(idle_world, 30)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    activity.in_flight.clear()
    activity.ended[made.id] = idle_world.clock.monotonic()
    await _pass(idle_world, 8)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    await _pass(idle_world, 4)
    await until(lambda: idle_world.node.machine.sandboxes[made.id].frozen)


async def test_one_that_computes_is_let_alone(idle_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=5))
    usage = idle_world.node.usage

    async def busy(id: SandboxId) -> Usage:
        return replace(await usage(id), cpu_used_pct=80.0)

    monkeypatch.setattr(idle_world.node, "usage", busy)
    await _pass(idle_world, 20)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    monkeypatch.setattr(idle_world.node, "usage", usage)
    await _pass(idle_world, 5)
    await until(lambda: idle_world.node.machine.sandboxes[made.id].frozen)


async def test_a_request_in_the_last_moment_is_not_frozen(idle_world: World, activity: FakeActivity) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=5))
    gate = idle_world.node.hold("usage")
    await _pass(idle_world, 6)
    await gate.reached.wait()
    activity.in_flight.add(made.id)
    gate.opened.set()
    await _pass(idle_world, 2)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    assert not idle_world.node.machine.sandboxes[made.id].frozen


async def test_one_that_cannot_be_saved_is_tried_again_later(idle_world: World) -> None:
    made = await _made(idle_world, LifecyclePolicy(idle_timeout_s=5, on_idle=OnIdle.PAUSE))
    idle_world.node.fail("save", FailedPrecondition("a deleted file is open"))
    await _pass(idle_world, 7)
    await until(lambda: not idle_world.node.failures["save"])
    await _settled(idle_world, made)
    await _pass(idle_world, 20)
    assert (await idle_world.row(made.id)).state is S.RUNNING
    await _pass(idle_world, 60)
    await until(lambda: made.id not in idle_world.node.machine.sandboxes)


async def test_a_policy_can_be_given_later(idle_world: World) -> None:
    made = await _made(idle_world, LifecyclePolicy())
    await _pass(idle_world, 30)
    changed = await idle_world.sandboxes.set_lifecycle(
        idle_world.project.id, made.id, lambda policy: replace(policy, idle_timeout_s=35)
    )
    assert changed == await idle_world.row(made.id)
    await _pass(idle_world, 7)
    await until(lambda: idle_world.node.machine.sandboxes[made.id].frozen)


async def test_nothing_is_kept_of_one_that_has_ended(idle_world: World, activity: FakeActivity) -> None:
    made = await _made(idle_world, LifecyclePolicy())
    activity.ended[made.id] = 1.0
    await idle_world.sandboxes.pause(idle_world.project.id, made.id)
    assert made.id in activity.ended
    await idle_world.sandboxes.kill(idle_world.project.id, made.id)
    assert activity.ended == {}
