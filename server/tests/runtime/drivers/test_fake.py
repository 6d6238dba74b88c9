"""The fake driver does what its script says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import FailedPrecondition, Internal, RuntimeUnusable
from atolld.foundation.ids import new_sandbox_id
from atolld.runtime.driver import LaunchSpec, Power, ShellSpec, TaskState, TaskStats
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
async def test_each_verb_fails_once(verb: Verb, spec: LaunchSpec, tmp_path: Path) -> None:
    driver = FakeDriver(script=failing(verb))
    handle = await driver.create(spec)
    if verb is not Verb.START:
        handle = await driver.start(handle)
    if verb in (Verb.CHECKPOINT, Verb.RESTORE):
        await driver.suspend(handle)
    if verb is Verb.RESTORE:
        await driver.checkpoint(handle, tmp_path, end_connections=False)
    other = replace(spec, id=new_sandbox_id())
    kind = await driver.shell_kind(spec.resources)
    assert kind is not None
    shell = ShellSpec(other.id, spec.netns, spec.agent, spec.log, spec.directory, spec.cgroup, spec.resources, kind)
    calls: dict[Verb, Callable[[], Awaitable[object]]] = {
        Verb.START: lambda: driver.start(handle),
        Verb.STOP: lambda: driver.stop(handle, 0),
        Verb.INSPECT: lambda: driver.inspect(handle),
        Verb.STATS: lambda: driver.stats(handle),
        Verb.WAIT: lambda: driver.wait(handle),
        Verb.RECOVER: lambda: driver.recover(handle),
        Verb.DESTROY: lambda: driver.destroy(handle),
        Verb.LIST_OWNED: driver.list_owned,
        Verb.SUSPEND: lambda: driver.suspend(handle),
        Verb.UNSUSPEND: lambda: driver.unsuspend(handle),
        Verb.CHECKPOINT: lambda: driver.checkpoint(handle, tmp_path, end_connections=False),
        Verb.RESTORE: lambda: driver.restore(other, tmp_path),
        Verb.PREPARE: lambda: driver.prepare(shell),
        Verb.FREEZE: lambda: driver.freeze(handle),
        Verb.THAW: lambda: driver.thaw(handle),
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


async def test_memory_is_kept_and_divides(spec: LaunchSpec, tmp_path: Path) -> None:
    driver = FakeDriver()
    handle = await driver.start(await driver.create(spec))
    driver.world.tasks[spec.id].memory["seen"] = 3
    await driver.suspend(handle)
    await driver.checkpoint(handle, tmp_path, end_connections=True)
    copy = await driver.restore(replace(spec, id=new_sandbox_id()), tmp_path)
    driver.world.tasks[copy.id].memory["seen"] = 4
    assert driver.world.tasks[spec.id].memory == {"seen": 3}
    assert driver.world.tasks[spec.id].suspended
    assert not driver.world.tasks[copy.id].suspended


async def test_only_what_stands_still_is_saved(spec: LaunchSpec, tmp_path: Path) -> None:
    driver = FakeDriver()
    handle = await driver.start(await driver.create(spec))
    with pytest.raises(Internal, match="while it runs"):
        await driver.checkpoint(handle, tmp_path, end_connections=False)


async def test_powers_can_be_missing(spec: LaunchSpec, tmp_path: Path) -> None:
    lacks = {Power.CHECKPOINT: "cannot save", Power.RESTORE: "cannot restore", Power.FREEZE: "cannot freeze"}
    driver = FakeDriver(script=Script(missing=lacks))
    handle = await driver.start(await driver.create(spec))
    assert lacks.items() <= (await driver.fingerprint()).missing.items()
    for refused, sentence in (
        (driver.suspend(handle), "cannot save"),
        (driver.checkpoint(handle, tmp_path, end_connections=False), "cannot save"),
        (driver.freeze(handle), "cannot freeze"),
        (driver.restore(spec, tmp_path), "cannot restore"),
    ):
        with pytest.raises(FailedPrecondition, match=sentence):
            await refused
