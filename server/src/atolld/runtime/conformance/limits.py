"""Checks that bounds hold, that the guest knows them, and that passing them hurts nobody else."""

from __future__ import annotations

import asyncio
import time

from atolld.core.sandbox import Resources
from atolld.foundation.aio import spawn
from atolld.foundation.errors import GuestUnreachable
from atolld.runtime.conformance.lab import Lab
from atolld.runtime.driver import TaskState

# Written bytes, not reserved ones: only those are counted.
_MEMORY_BOMB = "python3 -c \"x = b'1' * (1 << 20)\nkeep = []\nfor _ in range({mib}): keep.append(x + b'2')\""
_FORK_BOMB = """python3 -c "
import os, time
os.setgid(1000); os.setuid(1000)
made = 0
try:
    while made < 2000:
        if os.fork() == 0:
            os.closerange(0, 64)
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError as error:
    print('refused after', made, error.errno)
else:
    print('never refused')
" """
_SPIN = "timeout -s KILL {seconds} python3 -c 'while True: pass'"


async def check_memory_bomb(lab: Lab) -> None:
    """Past its memory the guest's process or the sandbox ends, said to be out of memory; a neighbour goes on."""
    driver = lab.driver()
    ground, neighbour = await lab.prepare(Resources(memory_mib=256)), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    other = await driver.start(await driver.create(neighbour.spec))
    await lab.run(neighbour, "true")
    answer: object = None
    try:
        answer = await lab.run(ground, _MEMORY_BOMB.format(mib=1024), timeout_s=60)
        assert answer.status != 0, "a guest of 256 MiB kept 1 GiB"
    except GuestUnreachable as error:
        answer = error
        async with asyncio.timeout(10):
            assert (await driver.wait(handle)).state is TaskState.GONE
    status = await driver.inspect(handle)
    assert status.out_of_memory, (status, answer)
    assert (await lab.run(neighbour, "echo well")).output == "well\n"
    assert not (await driver.inspect(other)).out_of_memory
    await driver.destroy(handle)
    await driver.destroy(other)
    assert lab.leftovers(ground) == []


async def check_fork_bomb(lab: Lab) -> None:
    """A fork bomb of a user meets EAGAIN at the limit; the sandbox lives, and its host tasks stay bounded."""
    driver = lab.driver()
    bounds = Resources(memory_mib=512, pids_max=64)
    ground = await lab.prepare(bounds)
    handle = await driver.start(await driver.create(ground.spec))
    seen = await lab.run(ground, _FORK_BOMB, timeout_s=60)
    assert "refused after" in seen.output, seen
    # The agent's own threads are on top of the guest's.
    assert int(seen.output.split("refused after")[1].split()[0]) <= bounds.pids_max + 16, seen
    extra = driver.overhead(bounds).tasks
    assert (await driver.stats(handle)).tasks <= bounds.pids_max + extra
    # Its processes sleep for 20 s; then the guest has room again.
    async with asyncio.timeout(60):
        while (await lab.run(ground, "sleep 1")).status != 0:
            continue
    assert (await driver.inspect(handle)).state is TaskState.RUNNING
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_cpu_quota(lab: Lab) -> None:
    """Two busy processes in half a core use half a core, within a fifth."""
    driver = lab.driver()
    ground = await lab.prepare(Resources(cpu=0.5))
    handle = await driver.start(await driver.create(ground.spec))
    await lab.run(ground, "true")
    spinning = [
        spawn(lab.run(ground, _SPIN.format(seconds=6), timeout_s=60), name="conformance-spin", report=False)
        for _ in range(2)
    ]
    await asyncio.sleep(2)
    began, before = time.monotonic(), (await driver.stats(handle)).cpu_usec
    await asyncio.sleep(3)
    used = ((await driver.stats(handle)).cpu_usec - before) / 1e6 / (time.monotonic() - began)
    await asyncio.wait(spinning)
    assert used <= 0.5 * 1.2, f"{used:.2f} cores were used"
    # A machine that is busy with other things may give less than the quota, never nothing.
    assert used >= 0.1, f"only {used:.2f} cores were used"
    await driver.destroy(handle)


async def check_guest_sees_its_memory(lab: Lab) -> None:
    """The guest's MemTotal is the memory it was given."""
    driver, ground = lab.driver(), await lab.prepare(Resources(memory_mib=300))
    handle = await driver.start(await driver.create(ground.spec))
    seen = await lab.run(ground, "awk '/^MemTotal/ {print $2}' /proc/meminfo")
    assert int(seen.output) == 300 * 1024, seen
    await driver.destroy(handle)


async def check_guest_sees_its_cpus(lab: Lab) -> None:
    """A guest of one core sees one CPU."""
    driver, ground = lab.driver(), await lab.prepare(Resources(cpu=1))
    handle = await driver.start(await driver.create(ground.spec))
    seen = await lab.run(ground, "nproc")
    assert seen.output.strip() == "1", seen
    await driver.destroy(handle)


async def check_small_sandbox_starts_promptly(lab: Lab) -> None:
    """A tenth of a core does not make the start ten times as long."""
    driver = lab.driver()
    ground = await lab.prepare(Resources(cpu=0.1, memory_mib=64))
    await driver.fingerprint()
    began = time.monotonic()
    handle = await driver.start(await driver.create(ground.spec))
    took = time.monotonic() - began
    assert took < 1.0, f"{took:.2f} s"
    await driver.destroy(handle)
