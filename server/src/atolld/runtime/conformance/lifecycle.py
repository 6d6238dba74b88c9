"""Checks of one sandbox's life: made, run, watched, stopped, removed."""

from __future__ import annotations

import asyncio
import contextlib
import time

from atolld.foundation.aio import spawn
from atolld.foundation.errors import AlreadyExists, NotFound, Unimplemented
from atolld.runtime.conformance.lab import Ground, Lab
from atolld.runtime.driver import Handle, TaskState

# A kill takes milliseconds; a machine under load a little more.
PROMPT_S = 5.0


async def check_create_runs_nothing(lab: Lab) -> None:
    """After `create` the sandbox is known, nothing of the guest runs, and `destroy` takes it away."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.create(ground.spec)
    assert (await driver.inspect(handle)).state is TaskState.CREATED
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_start_runs(lab: Lab) -> None:
    """After `start` the sandbox runs under a host process, and the handle survives storage."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    status = await driver.inspect(Handle.from_json(handle.to_json()))
    assert status.state is TaskState.RUNNING
    assert status.host_pid is not None
    assert not status.out_of_memory
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_same_id_twice(lab: Lab) -> None:
    """An id exists once."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.create(ground.spec)
    try:
        await driver.create(ground.spec)
    except AlreadyExists:
        pass
    else:
        raise AssertionError("the second create of one id was accepted")
    await driver.destroy(handle)


async def check_agent_is_pid_1(lab: Lab) -> None:
    """The agent is PID 1 and root, and cannot be written from inside."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    seen = await lab.run(ground, "tr '\\0' ' ' </proc/1/cmdline; id -u; hostname; echo x 2>&1 >>/.atoll/agent")
    assert "/.atoll/agent" in seen.output, seen
    assert "\n0\n" in f"\n{seen.output}" or " 0\n" in seen.output, seen
    assert ground.spec.hostname in seen.output, seen
    assert seen.status != 0, f"the agent's file took a write: {seen}"
    await driver.destroy(handle)


async def check_root_file_system(lab: Lab) -> None:
    """Writes reach the sandbox's own layer, /tmp is on it too, and the kernel's file systems are there."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    command = "echo kept >/root/made && echo kept >/tmp/made && test -r /proc/self/status && test -d /sys/class"
    seen = await lab.run(ground, command + " && test -c /dev/null && test -c /dev/ptmx && : >/dev/shm/x")
    assert seen.status == 0, seen
    assert (ground.spec.rootfs / "root/made").read_text() == "kept\n"
    assert (ground.spec.rootfs / "tmp/made").read_text() == "kept\n", "/tmp is not under the disk limit"
    await driver.destroy(handle)


async def check_log_takes_output(lab: Lab) -> None:
    """What PID 1 prints is in the log file."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    await lab.run(ground, "true")
    assert "guest is up" in ground.spec.log.read_text()
    await driver.destroy(handle)


async def check_set_user_id_works(lab: Lab) -> None:
    """A set-user-id program gains its owner's rights: sudo works."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    as_user = "import os; os.setgid(1000); os.setuid(1000); os.execv('/root.id', ['id', '-u'])"
    seen = await lab.run(ground, f'cp /usr/bin/id /root.id && chmod 4755 /root.id && python3 -c "{as_user}"')
    assert seen.output.strip() == "0", seen
    await driver.destroy(handle)


async def check_stop_lets_the_guest_end(lab: Lab) -> None:
    """`stop` with grace ends a guest that obeys long before the grace is over."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    await _answers(lab, ground)
    began = time.monotonic()
    await driver.stop(handle, grace_s=20)
    assert time.monotonic() - began < 15
    assert (await driver.inspect(handle)).state is TaskState.GONE
    await driver.stop(handle, grace_s=20)
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_stop_kills_what_ignores_term(lab: Lab) -> None:
    """`stop` waits for the grace, then kills."""
    driver, ground = lab.driver(), await lab.prepare(ignores_term=True)
    handle = await driver.start(await driver.create(ground.spec))
    await _answers(lab, ground)
    began = time.monotonic()
    await driver.stop(handle, grace_s=0.5)
    took = time.monotonic() - began
    assert 0.4 <= took < 0.5 + PROMPT_S, took
    assert (await driver.inspect(handle)).state is TaskState.GONE
    await driver.destroy(handle)


async def check_stop_without_grace(lab: Lab) -> None:
    """`stop` with no grace kills at once."""
    driver, ground = lab.driver(), await lab.prepare(ignores_term=True)
    handle = await driver.start(await driver.create(ground.spec))
    began = time.monotonic()
    await driver.stop(handle, grace_s=0)
    assert time.monotonic() - began < PROMPT_S
    assert (await driver.inspect(handle)).state is TaskState.GONE
    await driver.destroy(handle)


async def check_death_by_itself(lab: Lab) -> None:
    """When PID 1 exits, `wait` returns, and it is no out-of-memory death."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    waiting = spawn(driver.wait(handle), name="conformance-wait")
    await lab.end_by_itself(ground, handle)
    async with asyncio.timeout(PROMPT_S):
        status = await waiting
    assert status.state is TaskState.GONE
    assert not status.out_of_memory
    assert (await driver.inspect(handle)).state is TaskState.GONE
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_destroy_running(lab: Lab) -> None:
    """`destroy` needs no `stop` before it, ends a pending `wait`, is prompt, and can be repeated."""
    driver, ground = lab.driver(), await lab.prepare(ignores_term=True)
    handle = await driver.start(await driver.create(ground.spec))
    waiting = spawn(driver.wait(handle), name="conformance-wait")
    await asyncio.sleep(0)
    began = time.monotonic()
    await driver.destroy(handle)
    assert time.monotonic() - began < PROMPT_S
    async with asyncio.timeout(PROMPT_S):
        await waiting
    assert lab.leftovers(ground) == []
    await driver.destroy(handle)
    assert (await driver.inspect(handle)).state is TaskState.GONE


async def check_destroy_many_at_once(lab: Lab) -> None:
    """Concurrent lives do not disturb each other, and two destroys of one sandbox are one."""
    driver = lab.driver()
    grounds = [await lab.prepare() for _ in range(4)]

    async def live(index: int) -> None:
        handle = await driver.start(await driver.create(grounds[index].spec))
        await asyncio.gather(driver.destroy(handle), driver.destroy(handle))

    async with asyncio.TaskGroup() as group:
        for index in range(len(grounds)):
            group.create_task(live(index))
    assert [lab.leftovers(ground) for ground in grounds] == [[], [], [], []]
    assert await driver.list_owned() == []


async def check_stats(lab: Lab) -> None:
    """A running sandbox uses memory and has tasks; one that is gone has no stats."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    stats = await driver.stats(handle)
    assert stats.memory_bytes > 0
    assert stats.memory_peak_bytes >= stats.memory_bytes // 2
    assert stats.tasks > 0
    await driver.destroy(handle)
    try:
        await driver.stats(handle)
    except NotFound:
        return
    raise AssertionError("a destroyed sandbox has stats")


async def _answers(lab: Lab, ground: Ground) -> None:
    """Wait until the guest has come so far that it handles signals, where there is a guest."""
    with contextlib.suppress(Unimplemented):
        await lab.run(ground, "true")
