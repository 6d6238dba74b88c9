"""The fake driver does what its script says."""

from __future__ import annotations

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Internal, RuntimeUnusable
from atolld.runtime.driver import LaunchSpec, TaskState, TaskStats
from atolld.runtime.drivers.fake import FakeDriver, FakeWorld, Script, Verb, failing


async def test_delays_follow_the_clock(spec: LaunchSpec) -> None:
    clock = ManualClock()
    driver = FakeDriver(script=Script(delays_s={Verb.CREATE: 2.0}), clock=clock)
    creating = spawn(driver.create(spec), name="test")
    await clock.advance(1.9)
    assert not creating.done()
    await clock.advance(0.2)
    assert creating.done()


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.CREATE])
async def test_each_verb_fails_once(verb: Verb, spec: LaunchSpec) -> None:
    driver = FakeDriver(script=failing(verb))
    handle = await driver.create(spec)
    if verb is not Verb.START:
        handle = await driver.start(handle)
    calls = {
        Verb.START: lambda: driver.start(handle),
        Verb.STOP: lambda: driver.stop(handle, 0),
        Verb.INSPECT: lambda: driver.inspect(handle),
        Verb.STATS: lambda: driver.stats(handle),
        Verb.WAIT: lambda: driver.wait(handle),
        Verb.RECOVER: lambda: driver.recover(handle),
        Verb.DESTROY: lambda: driver.destroy(handle),
        Verb.LIST_OWNED: driver.list_owned,
    }
    with pytest.raises(Internal, match="the script said so"):
        await calls[verb]()
    if verb is Verb.WAIT:
        driver.world.die(spec.id)
    await calls[verb]()


async def test_a_failed_start_may_have_started(spec: LaunchSpec) -> None:
    script = failing(Verb.START)
    script.start_anyway = True
    driver = FakeDriver(script=script)
    handle = await driver.create(spec)
    with pytest.raises(Internal):
        await driver.start(handle)
    assert (await driver.inspect(handle)).state is TaskState.RUNNING


async def test_death_and_its_reason(spec: LaunchSpec) -> None:
    world = FakeWorld()
    driver = FakeDriver(world)
    handle = await driver.start(await driver.create(spec))
    waiting = spawn(driver.wait(handle), name="test")
    world.die(spec.id, out_of_memory=True, message="too much")
    status = await waiting
    assert (status.state, status.out_of_memory, status.message) == (TaskState.GONE, True, "too much")


async def test_stop_waits_for_who_ignores_it(spec: LaunchSpec) -> None:
    clock = ManualClock()
    driver = FakeDriver(script=Script(ignores_term=True), clock=clock)
    creating = spawn(driver.create(spec), name="test")
    await clock.advance(0)
    handle = await driver.start(await creating)
    stopping = spawn(driver.stop(handle, 3), name="test")
    await clock.advance(2.9)
    assert not stopping.done()
    await clock.advance(0.2)
    assert stopping.done()
    assert (await driver.inspect(handle)).state is TaskState.GONE


async def test_unusable(spec: LaunchSpec) -> None:
    driver = FakeDriver(script=Script(unusable="not today"))
    assert not (await driver.fingerprint()).usable
    with pytest.raises(RuntimeUnusable, match="not today"):
        await driver.create(spec)


async def test_use_and_record(spec: LaunchSpec) -> None:
    driver = FakeDriver()
    handle = await driver.start(await driver.create(spec))
    driver.world.use(spec.id, TaskStats(5, 6, 7, 8))
    assert await driver.stats(handle) == TaskStats(5, 6, 7, 8)
    assert driver.calls == [(Verb.CREATE, spec.id), (Verb.START, spec.id), (Verb.STATS, spec.id)]
