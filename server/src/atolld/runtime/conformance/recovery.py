"""Checks of what a daemon finds after its own death: sandboxes live on, and what was half made can be removed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, FailedPrecondition
from atolld.foundation.ids import new_sandbox_id
from atolld.runtime.conformance.lab import Lab
from atolld.runtime.driver import Handle, TaskState

PROMPT_S = 5.0


async def check_recover_by_another_daemon(lab: Lab) -> None:
    """A second driver takes a running sandbox over from the stored handle, watches it and ends it."""
    ground = await lab.prepare()
    first = lab.driver()
    stored = json.dumps((await first.start(await first.create(ground.spec))).to_json())
    second = lab.driver()
    handle = Handle.from_json(json.loads(stored))
    status = await second.recover(handle)
    assert status.state is TaskState.RUNNING
    assert status.host_pid is not None
    waiting = spawn(second.wait(handle), name="conformance-wait")
    await asyncio.sleep(0)
    assert not waiting.done()
    await lab.end_by_itself(ground, handle)
    async with asyncio.timeout(PROMPT_S):
        assert (await waiting).state is TaskState.GONE
    await second.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_recover_with_the_handle_of_create(lab: Lab) -> None:
    """The daemon died between start and storing its handle: the older one still finds the running sandbox."""
    ground = await lab.prepare()
    first = lab.driver()
    created = await first.create(ground.spec)
    await first.start(created)
    second = lab.driver()
    assert (await second.recover(created)).state is TaskState.RUNNING
    await second.destroy(created)
    assert lab.leftovers(ground) == []


async def check_recover_the_dead(lab: Lab) -> None:
    """A sandbox that ended while no daemon ran is told to be gone."""
    ground = await lab.prepare()
    first = lab.driver()
    handle = await first.start(await first.create(ground.spec))
    await lab.end_by_itself(ground, handle)
    async with asyncio.timeout(PROMPT_S):
        await first.wait(handle)
    second = lab.driver()
    assert (await second.recover(handle)).state is TaskState.GONE
    assert (await second.wait(handle)).state is TaskState.GONE
    await second.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_a_newer_handle_is_refused(lab: Lab) -> None:
    """A handle of a later version is refused in words, not misread."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.create(ground.spec)
    try:
        await driver.recover(replace(handle, version=handle.version + 1000))
    except FailedPrecondition:
        pass
    else:
        raise AssertionError("a handle from the future was accepted")
    await driver.destroy(handle)


async def check_wait_in_another_process(lab: Lab) -> None:
    """Waiting needs no parenthood: another process sees the sandbox run and end."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    elsewhere = spawn(lab.wait_elsewhere(handle), name="conformance-elsewhere")
    await asyncio.sleep(0.5)
    assert not elsewhere.done()
    await driver.stop(handle, grace_s=0)
    async with asyncio.timeout(PROMPT_S):
        assert await elsewhere == TaskState.GONE.value
    await driver.destroy(handle)


async def check_destroy_what_never_was(lab: Lab) -> None:
    """`destroy` of an id the runtime never heard of is success."""
    driver, ground = lab.driver(), await lab.prepare()
    await driver.destroy(driver.handle_for(ground.spec.id, ground.spec.directory))
    unknown = new_sandbox_id()
    await driver.destroy(driver.handle_for(unknown, ground.spec.directory.parent / unknown))
    assert lab.leftovers(ground) == []


async def check_destroy_without_the_handle(lab: Lab) -> None:
    """What an earlier daemon started without storing anything is found by `list_owned` and removed."""
    ground = await lab.prepare()
    first = lab.driver()
    await first.start(await first.create(ground.spec))
    second = lab.driver()
    assert await second.list_owned() == [ground.spec.id]
    await second.destroy(second.handle_for(ground.spec.id, ground.spec.directory))
    assert await second.list_owned() == []
    assert lab.leftovers(ground) == []


async def check_destroy_half_created(lab: Lab) -> None:
    """The daemon died in or right after `create`: the next one removes it."""
    ground = await lab.prepare()
    await lab.driver().create(ground.spec)
    second = lab.driver()
    await second.destroy(second.handle_for(ground.spec.id, ground.spec.directory))
    assert lab.leftovers(ground) == []


async def check_destroy_at_every_moment_of_start(lab: Lab) -> None:
    """A start that is cancelled at any moment leaves nothing that `destroy` does not remove."""
    for delay_s in (0.0, 0.005, 0.02, 0.05, 0.08, 0.12, 0.2):
        driver, ground = lab.driver(), await lab.prepare()
        handle = await driver.create(ground.spec)
        starting = spawn(driver.start(handle), name="conformance-start", report=False)
        await asyncio.sleep(delay_s)
        starting.cancel()
        await asyncio.wait([starting])
        second = lab.driver()
        await second.destroy(second.handle_for(ground.spec.id, ground.spec.directory))
        left = lab.leftovers(ground)
        assert left == [], f"cancelled after {delay_s} s: {left}"


async def check_destroy_after_a_failed_start(lab: Lab) -> None:
    """A start that cannot succeed raises in words, and leaves nothing that `destroy` does not remove."""
    driver, ground = lab.driver(), await lab.prepare()
    spec = replace(ground.spec, netns=ground.spec.netns.parent / "nothing-here")
    try:
        handle = await driver.create(spec)
        await driver.start(handle)
    except AtollError as error:
        assert len(error.message) > 20, error
    else:
        raise AssertionError("a sandbox started in a network namespace that does not exist")
    await driver.destroy(driver.handle_for(spec.id, spec.directory))
    assert lab.leftovers(ground) == []
