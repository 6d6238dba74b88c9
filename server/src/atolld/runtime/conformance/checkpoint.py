"""Checks of saving and restoring: what goes on, what is the same, and that failures leave the guest as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, NotFound, Unimplemented
from atolld.runtime.conformance import guest_tasks
from atolld.runtime.conformance.lab import Ground, Lab
from atolld.runtime.driver import Handle, Power, RuntimeDriver, TaskState

PROMPT_S = 5.0


async def check_goes_on_after_a_checkpoint(lab: Lab) -> None:
    """Memory, an open file, a child and a listening socket go on where they were; no time passes while it stands."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.CHECKPOINT, handle, lab):
        return
    first = await guest_tasks.begin_counter(lab, ground)
    await driver.suspend(handle)
    await driver.suspend(handle)
    await driver.checkpoint(handle, lab.empty_directory(), end_connections=False)
    await driver.unsuspend(handle)
    await driver.unsuspend(handle)
    second = await guest_tasks.ask_counter(lab, ground)
    assert second["token"] == first["token"]
    assert (second["asked"], second["child"], second["file"]) == (2, 2, 2), second
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_a_restored_copy_has_the_memory_and_goes_its_own_way(lab: Lab) -> None:
    """In other surroundings the same memory goes on, and nothing it does is seen by the original or by a sibling."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.RESTORE, handle, lab):
        return
    first = await guest_tasks.begin_counter(lab, ground)
    image, copies = await save(lab, driver, ground, handle, copies=2)
    handles = [await driver.restore(copy.spec, image) for copy in copies]
    for copy in copies:
        told = await guest_tasks.ask_counter(lab, copy)
        assert told["token"] == first["token"]
        assert (told["asked"], told["child"], told["file"]) == (2, 2, 2), told
    for number in (3, 4):
        assert (await guest_tasks.ask_counter(lab, copies[0]))["asked"] == number
    assert (await guest_tasks.ask_counter(lab, ground))["asked"] == 2
    assert (await guest_tasks.ask_counter(lab, copies[1]))["asked"] == 3
    for copy, restored in zip(copies, handles, strict=True):
        assert (await driver.inspect(restored)).state is TaskState.RUNNING
        await driver.stop(restored, grace_s=20)
        await driver.destroy(restored)
        assert lab.leftovers(copy) == []
    await driver.destroy(handle)


async def check_a_restored_guest_is_saved_again(lab: Lab) -> None:
    """A save of what was restored from a save has all of both."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.RESTORE, handle, lab):
        return
    first = await guest_tasks.begin_counter(lab, ground)
    image, (copy,) = await save(lab, driver, ground, handle)
    await driver.destroy(handle)
    handle = await driver.restore(copy.spec, image)
    await guest_tasks.ask_counter(lab, copy)
    image, (last,) = await save(lab, driver, copy, handle)
    await driver.destroy(handle)
    handle = await driver.restore(last.spec, image)
    told = await guest_tasks.ask_counter(lab, last)
    assert (told["token"], told["asked"], told["file"]) == (first["token"], 3, 3), told
    await driver.destroy(handle)


async def check_connections_end_and_new_ones_come(lab: Lab) -> None:
    """A server that waits with epoll for an outside connection serves new ones after the save, here and restored."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.RESTORE, handle, lab):
        return
    await guest_tasks.begin(lab, ground, guest_tasks.EPOLL_ECHO, "test -e /root/ready")
    old = [await _connect(ground, port) for port in guest_tasks.EPOLL_PORTS]
    image, (copy,) = await save(lab, driver, ground, handle, end_connections=True)
    restored = await driver.restore(copy.spec, image)
    for place in (ground, copy):
        async with asyncio.timeout(PROMPT_S):
            for port in guest_tasks.EPOLL_PORTS:
                (await _connect(place, port)).close()
    for writer in old:
        writer.close()
    await driver.destroy(restored)
    await driver.destroy(handle)
    assert lab.leftovers(ground) == lab.leftovers(copy) == []


async def check_a_full_disk_leaves_it_running(lab: Lab) -> None:
    """Where there is no room for the memory, Capacity is raised, the guest goes on, and can be saved elsewhere."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.CHECKPOINT, handle, lab):
        return
    await driver.suspend(handle)
    # Full from the beginning, and full half way.
    for room_kib in (16, 64, 640):
        try:
            await driver.checkpoint(handle, lab.full_directory(room_kib), end_connections=False)
        except Capacity as error:
            assert "room" in error.message or "full" in error.message, error
        else:
            raise AssertionError("a checkpoint fitted into a full directory")
    await driver.checkpoint(handle, lab.empty_directory(), end_connections=False)
    await driver.unsuspend(handle)
    await _answers(lab, ground)
    assert (await driver.inspect(handle)).state is TaskState.RUNNING
    await driver.destroy(handle)


async def check_an_open_deleted_file_is_named(lab: Lab) -> None:
    """A guest that holds what cannot be saved is told the path, goes on, and can be saved without it."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.CHECKPOINT, handle, lab):
        return
    await guest_tasks.begin(lab, ground, guest_tasks.HOLD_DELETED, "test -e /root/ready")
    for end_connections in (False, True):
        await driver.suspend(handle)
        try:
            await driver.checkpoint(handle, lab.empty_directory(), end_connections=end_connections)
        except FailedPrecondition as error:
            assert "/root/held now" in error.message, error
        else:
            raise AssertionError("an open deleted file was saved: say so in the docs, and what is in it")
        await driver.unsuspend(handle)
        await lab.run(ground, "true")
    await lab.run(ground, "pkill -f 'held now'; sleep 0.1")
    await save(lab, driver, ground, handle, copies=0)
    await driver.destroy(handle)


async def check_full_memory_and_little_cpu(lab: Lab) -> None:
    """A guest that uses most of its memory, with a quarter of a core, is saved and restored promptly within bounds."""
    bounds = Resources(cpu=0.25, memory_mib=256)
    driver, ground = lab.driver(), await lab.prepare(bounds)
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.RESTORE, handle, lab):
        return
    await guest_tasks.begin(lab, ground, guest_tasks.FILL.format(mib=250), "test -e /root/ready")
    async with asyncio.timeout(PROMPT_S):
        image, (copy,) = await save(lab, driver, ground, handle, resources=bounds)
        restored = await driver.restore(copy.spec, image)
    for place, running in ((ground, handle), (copy, restored)):
        seen = await lab.run(place, "awk '/^MemTotal/ {print $2}' /proc/meminfo; cat /proc/uptime")
        assert seen.output.startswith(f"{256 * 1024}\n"), seen
        status = await driver.inspect(running)
        assert status.state is TaskState.RUNNING and not status.out_of_memory, status
        await driver.destroy(running)


async def check_a_damaged_image_does_not_come_up(lab: Lab) -> None:
    """A save of which half is missing raises in words, and leaves nothing that `destroy` does not remove."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.RESTORE, handle, lab):
        return
    await _answers(lab, ground)
    image, copies = await save(lab, driver, ground, handle, copies=2)
    files = sorted((path for path in image.iterdir() if path.stat().st_size), key=lambda path: -path.stat().st_size)
    for copy, damaged in zip(copies, (files[:1], files), strict=True):
        for path in damaged:
            os.truncate(path, path.stat().st_size // 2)
        try:
            await driver.restore(copy.spec, image)
        except AtollError as error:
            assert len(error.message) > 20, error
        else:
            raise AssertionError("a sandbox came up from half a save")
        await driver.destroy(driver.handle_for(copy.spec.id, copy.spec.directory))
        assert lab.leftovers(copy) == []
    assert (await driver.inspect(handle)).state is TaskState.RUNNING
    await driver.destroy(handle)


async def check_a_cancelled_save_can_be_repeated(lab: Lab) -> None:
    """A save that is cancelled at any moment leaves a guest that goes on, and can be saved."""
    driver, ground = lab.driver(), await lab.prepare()
    handle = await driver.start(await driver.create(ground.spec))
    if await lacks(driver, Power.CHECKPOINT, handle, lab):
        return
    for delay_s in (0.0, 0.004, 0.012, 0.02, 0.035, 0.05):
        saving = spawn(save(lab, driver, ground, handle, copies=0), name="conformance-save", report=False)
        await asyncio.sleep(delay_s)
        saving.cancel()
        await asyncio.wait([saving])
        # A daemon that died meanwhile: another one finds it as it is.
        other = lab.driver()
        assert (await other.recover(handle)).state is TaskState.RUNNING
        await other.unsuspend(handle)
        await _answers(lab, ground)
    await save(lab, driver, ground, handle, copies=0)
    await driver.destroy(handle)
    assert lab.leftovers(ground) == []


async def check_recover_suspended(lab: Lab) -> None:
    """The daemon died while the guest stood still: the next one finds it running, and lets it go on."""
    ground, first = await lab.prepare(), lab.driver()
    handle = await first.start(await first.create(ground.spec))
    if await lacks(first, Power.CHECKPOINT, handle, lab):
        return
    await _answers(lab, ground)
    await first.suspend(handle)
    second = lab.driver()
    assert (await second.recover(handle)).state is TaskState.RUNNING
    await second.unsuspend(handle)
    await _answers(lab, ground)
    await second.destroy(handle)


async def check_end_suspended(lab: Lab) -> None:
    """One that stands still is stopped and destroyed as promptly as any other."""
    driver = lab.driver()
    for way in ("stop", "destroy"):
        ground = await lab.prepare()
        handle = await driver.start(await driver.create(ground.spec))
        if await lacks(driver, Power.CHECKPOINT, handle, lab):
            return
        await _answers(lab, ground)
        await driver.suspend(handle)
        async with asyncio.timeout(PROMPT_S):
            if way == "stop":
                await driver.stop(handle, grace_s=20)
            await driver.destroy(handle)
        assert lab.leftovers(ground) == []
        try:
            await driver.suspend(handle)
        except NotFound:
            continue
        raise AssertionError("a sandbox that is gone was suspended")


async def save(
    lab: Lab,
    driver: RuntimeDriver,
    ground: Ground,
    handle: Handle,
    *,
    copies: int = 1,
    end_connections: bool = False,
    resources: Resources | None = None,
) -> tuple[Path, list[Ground]]:
    """Save a running guest and let it go on: the memory, and surroundings with copies of its disk of that moment."""
    image = lab.empty_directory()
    await driver.suspend(handle)
    await driver.checkpoint(handle, image, end_connections=end_connections)
    grounds = [await lab.prepare(resources, disk_of=ground) for _ in range(copies)]
    await driver.unsuspend(handle)
    return image, grounds


async def lacks(driver: RuntimeDriver, power: Power, handle: Handle, lab: Lab) -> bool:
    """Whether the driver says that it lacks `power`; then it must refuse in the same words, and the sandbox is gone."""
    sentence = (await driver.fingerprint()).missing.get(power)
    if sentence is None:
        return False
    assert len(sentence) > 40, sentence
    for refused in (driver.suspend(handle), driver.checkpoint(handle, lab.empty_directory(), end_connections=False)):
        try:
            await refused
        except FailedPrecondition as error:
            assert error.message == sentence or power is not Power.CHECKPOINT
        else:
            raise AssertionError(f"it did what it says it cannot: {sentence}")
    await driver.unsuspend(handle)
    await driver.destroy(handle)
    return True


async def _connect(ground: Ground, port: int) -> asyncio.StreamWriter:
    """A connection to `EPOLL_ECHO` that has been served once."""
    reader, writer = await asyncio.open_connection(ground.address, port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return writer


async def _answers(lab: Lab, ground: Ground) -> None:
    """The guest works, where there is a guest."""
    with contextlib.suppress(Unimplemented):
        assert (await lab.run(ground, "echo well")).output == "well\n"
