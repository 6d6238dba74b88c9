from __future__ import annotations

import pytest

from atolld.control.testing import RecordedTelemetry, World, until
from atolld.control.usage import AT_ONCE
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Usage


def _calls(world: World) -> int:
    return [verb for verb, _ in world.node.calls].count("usage")


async def test_a_sample_every_five_seconds_while_there_are_sandboxes(world: World) -> None:
    await world.clock.advance(100)
    assert _calls(world) == 0
    made = await world.create(timeout_s=None)
    start = world.clock.now()
    await world.clock.advance(4.9)
    assert await world.sandboxes.usage_samples(world.project.id, made.id) == []
    await world.clock.advance(15.1)
    samples = await world.sandboxes.usage_samples(world.project.id, made.id)
    assert [sample.at - start for sample in samples] == [5, 10, 15, 20]
    some = await world.sandboxes.usage_samples(world.project.id, made.id, start + 10, start + 15)
    assert [sample.at - start for sample in some] == [10, 15]
    await world.sandboxes.kill(world.project.id, made.id)
    await world.clock.advance(100)
    assert _calls(world) == 4


async def test_the_first_one_of_a_late_comer_is_there_within_five_seconds(world: World) -> None:
    await world.create(timeout_s=None)
    await world.clock.advance(7)
    late = await world.create(timeout_s=None)
    await world.clock.advance(5)
    assert len(await world.sandboxes.usage_samples(world.project.id, late.id)) == 1


async def test_sampling_begins_again_after_a_pause_and_after_a_restart(world: World) -> None:
    first = await world.create()
    await world.sandboxes.kill(world.project.id, first.id)
    await world.clock.advance(20)
    second = await world.create(timeout_s=None)
    await world.clock.advance(5)
    assert len(await world.sandboxes.usage_samples(world.project.id, second.id)) == 1
    again = await world.restart()
    await again.clock.advance(5)
    assert len(await again.sandboxes.usage_samples(again.project.id, second.id)) == 1
    await again.close()


async def test_history_is_one_hour(world: World) -> None:
    made = await world.create(timeout_s=None)
    await world.clock.advance(2 * 3600)
    samples = await world.sandboxes.usage_samples(world.project.id, made.id)
    assert len(samples) == 720
    assert samples[-1].at - samples[0].at == 3595


async def test_one_that_cannot_be_sampled_does_not_stop_the_others(world: World, telemetry: RecordedTelemetry) -> None:
    made = [await world.create(timeout_s=None) for _ in range(3)]
    world.node.fail("usage", OSError("no cgroup"))
    await world.clock.advance(10)
    counts = [len(await world.sandboxes.usage_samples(world.project.id, one.id)) for one in made]
    assert sorted(counts) == [1, 2, 2]
    assert telemetry.counted("usage_sample_failures") == 1


async def test_only_a_few_are_sampled_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3 * AT_ONCE):
        await world.create(timeout_s=None)
    usage, now, most = world.node.usage, 0, 0

    async def counted(id: SandboxId) -> Usage:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await usage(id)
        finally:
            now -= 1

    monkeypatch.setattr(world.node, "usage", counted)
    gate = world.node.hold("usage")
    await world.clock.advance(5)
    await gate.reached.wait()
    assert now == AT_ONCE
    gate.opened.set()
    await until(lambda: now == 0 and _calls(world) == 3 * AT_ONCE)
    assert most == AT_ONCE


async def test_a_sign_of_life_each_minute(world: World) -> None:
    made = await world.create(timeout_s=None)
    start = world.clock.now()
    await world.clock.advance(61)
    while await world.store.last_seen(made.id) != start + 60:
        await world.clock.advance(0)
    await world.clock.advance(30)
    assert await world.store.last_seen(made.id) == start + 60
    await world.close()
    again = await World.open(world.url, clock=world.clock, machine=world.node.machine, recover=False)
    assert await again.store.last_seen(made.id) == start + 91
    await again.close()


async def test_a_bad_round_does_not_end_the_sampling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.create(timeout_s=None)

    async def fail(_: float) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "seen", fail)
    await world.clock.advance(130)
    assert len(await world.sandboxes.usage_samples(world.project.id, made.id)) == 26
    monkeypatch.undo()
