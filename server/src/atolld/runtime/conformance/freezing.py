"""Checks of freezing: no CPU, all memory, and no verb that a frozen sandbox holds up."""

from __future__ import annotations

import asyncio
import contextlib

from atolld.foundation.aio import spawn
from atolld.foundation.errors import NotFound, Unimplemented
from atolld.runtime.conformance.lab import Ground, Lab
from atolld.runtime.driver import Power, TaskState

PROMPT_S = 5.0
_SPIN = "timeout -s KILL 8 python3 -c 'while True: pass'"


async def check_freeze_takes_the_cpu(lab: Lab) -> None:
    """A frozen sandbox uses no CPU from the moment `freeze` returns, keeps its memory, and goes on when thawed."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    assert Power.FREEZE not in (await driver.fingerprint()).missing
    await _answers(lab, ground)
    spinning = spawn(lab.run(ground, _SPIN), name="conformance-spin", report=False)
    await asyncio.sleep(0.5)
    await driver.freeze(handle)
    await driver.freeze(handle)
    before = await driver.stats(handle)
    await asyncio.sleep(0.5)
    after = await driver.stats(handle)
    assert after.cpu_usec - before.cpu_usec < 2000, (before, after)
    assert after.memory_bytes >= before.memory_bytes // 2
    assert (await driver.inspect(handle)).state is TaskState.RUNNING
    await driver.thaw(handle)
    await driver.thaw(handle)
    await _answers(lab, ground)
    await asyncio.wait([spinning])
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_end_frozen(lab: Lab) -> None:
    """A frozen sandbox is stopped and destroyed as promptly as any other; one that is gone cannot be frozen."""
    driver = lab.driver()
    for way in ("stop", "stop without grace", "destroy"):
        ground = await lab.prepare()
        handle = await driver.start(await driver.create(ground.spec))
        await _answers(lab, ground)
        await driver.freeze(handle)
        async with asyncio.timeout(PROMPT_S):
            if way != "destroy":
                await driver.stop(handle, grace_s=20 if way == "stop" else 0)
                assert (await driver.inspect(handle)).state is TaskState.GONE
            await driver.destroy(handle)
        assert lab.leftovers(ground) == []
        try:
            await driver.freeze(handle)
        except NotFound:
            continue
        raise AssertionError("a sandbox that is gone was frozen")


async def check_recover_frozen(lab: Lab) -> None:
    """A frozen sandbox runs for the next daemon, which thaws it."""
    ground, first = await lab.prepare(), lab.driver()
    handle = await first.start(await first.create(ground.spec))
    await _answers(lab, ground)
    await first.freeze(handle)
    second = lab.driver()
    assert (await second.recover(handle)).state is TaskState.RUNNING
    await second.unsuspend(handle)
    await second.thaw(handle)
    await _answers(lab, ground)
    await second.destroy(handle)


async def check_save_frozen(lab: Lab) -> None:
    """A frozen sandbox can be suspended and saved, and goes on afterwards."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if Power.CHECKPOINT not in (await driver.fingerprint()).missing:
        await _answers(lab, ground)
        await driver.freeze(handle)
        async with asyncio.timeout(PROMPT_S):
            await driver.suspend(handle)
            await driver.checkpoint(handle, lab.empty_directory(), end_connections=False)
        await driver.unsuspend(handle)
        await _answers(lab, ground)
    await driver.destroy(handle)


async def _answers(lab: Lab, ground: Ground) -> None:
    """The guest works, where there is a guest."""
    with contextlib.suppress(Unimplemented):
        assert (await lab.run(ground, "echo well")).output == "well\n"
