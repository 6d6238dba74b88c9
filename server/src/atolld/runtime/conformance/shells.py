"""Checks of what is prepared before its guest is known: a saved one goes on in it, and an unused one leaves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from atolld.core.sandbox import Resources
from atolld.foundation.errors import AtollError, FailedPrecondition
from atolld.runtime.conformance import guest_tasks
from atolld.runtime.conformance.checkpoint import PROMPT_S, save
from atolld.runtime.conformance.lab import Ground, Lab
from atolld.runtime.driver import Handle, Power, RuntimeDriver, ShellKind, TaskState

# Of a guest's root: what it can do to a file that it reaches through a mount.
_ATTACK = (
    "mount -o remount,rw /.atoll/agent; mount -o remount,rw,bind /.atoll/agent; chmod 0666 /.atoll/agent; "
    "chown 12:12 /.atoll/agent; echo x >> /.atoll/agent; head -c 4 /.atoll/agent"
)


async def check_a_guest_goes_on_in_a_shell(lab: Lab) -> None:
    """Its memory goes on, twice, each on a copy of the disk and with an address of its own, and is saved again."""
    driver, ground = lab.driver(), await lab.prepare()
    if (kind := await _kind(lab, driver)) is None:
        return
    handle = await driver.start(await driver.create(ground.spec))
    first = await guest_tasks.begin_counter(lab, ground)
    image, copies = await _in_shells(lab, driver, ground, handle, kind, count=2)
    for copy, restored in copies:
        assert (await driver.inspect(restored)).state is TaskState.RUNNING
        told = await guest_tasks.ask_counter(lab, copy)
        assert (told["token"], told["asked"], told["child"], told["file"]) == (first["token"], 2, 2, 2), told
    assert (await guest_tasks.ask_counter(lab, ground))["asked"] == 2
    await driver.destroy(handle)
    (one, its), (other, others) = copies
    await lab.run(one, "echo mine > /root/mine; sync")
    assert (one.spec.rootfs / "root/mine").read_text() == "mine\n"
    assert not (other.spec.rootfs / "root/mine").exists()
    image, (last,) = await save(lab, driver, one, its)
    for ended, its_handle in ((one, its), (other, others)):
        await driver.stop(its_handle, grace_s=20)
        await driver.destroy(its_handle)
        assert lab.leftovers(ended) == []
    restored = await driver.restore(last.spec, image)
    assert (await guest_tasks.ask_counter(lab, last))["asked"] == 3
    await driver.destroy(restored)


async def check_a_new_guest_starts_in_a_shell(lab: Lab) -> None:
    """It boots on its own files, also where the shell stood frozen, is sealed off from the agent's file, and is saved
    and restored as any other. One of another kind is refused."""
    driver, ground = lab.driver(), await lab.prepare()
    if (kind := await _kind(lab, driver)) is None:
        return
    shell = await lab.prepare_shell(kind)
    waits = await driver.prepare(shell)
    await driver.freeze(waits)
    assert (await driver.inspect(waits)).state is TaskState.CREATED
    await driver.thaw(waits)
    place = await lab.furnish(shell, ground)
    handle = await driver.start_into(place.spec, waits)
    assert (await driver.inspect(handle)).state is TaskState.RUNNING
    see = "awk '/^MemTotal/ {print $2}' /proc/meminfo"
    told = await lab.run(place, f"echo mine > /root/mine; sync; cat /root/mine; {see}")
    assert told.output == f"mine\n{place.spec.resources.memory_mib * 1024}\n", told
    assert (place.spec.rootfs / "root/mine").read_text() == "mine\n"
    agent = place.spec.agent
    before = agent.stat()
    told = await lab.run(place, _ATTACK)
    after = agent.stat()
    assert (before.st_mode, before.st_uid, before.st_size) == (after.st_mode, after.st_uid, after.st_size), told
    image, (copy,) = await save(lab, driver, place, handle)
    restored = await driver.restore(copy.spec, image)
    assert (await lab.run(copy, "cat /root/mine")).output == "mine\n"
    for one in (handle, restored):
        await driver.destroy(one)
    assert lab.leftovers(place) == []
    other = await lab.prepare_shell(replace(kind, agent_sudo=not kind.agent_sudo))
    waits = await driver.prepare(other)
    place = await lab.furnish(other, ground)
    try:
        await driver.start_into(place.spec, waits)
    except FailedPrecondition as error:
        assert "another kind" in error.message, error
    else:
        raise AssertionError("a guest started in a shell of another kind")
    await driver.destroy(waits)


async def check_the_agent_is_sealed_in_a_shell(lab: Lab) -> None:
    """Root in a guest that went on in one changes neither mode nor contents of the agent's file on the host."""
    driver, ground = lab.driver(), await lab.prepare()
    if (kind := await _kind(lab, driver)) is None:
        return
    handle = await driver.start(await driver.create(ground.spec))
    await lab.run(ground, "true")
    _, ((copy, restored),) = await _in_shells(lab, driver, ground, handle, kind)
    agent = ground.spec.agent
    before = agent.stat()
    told = await lab.run(copy, _ATTACK)
    after = agent.stat()
    assert (before.st_mode, before.st_uid, before.st_size) == (after.st_mode, after.st_uid, after.st_size), told
    assert told.output.endswith(agent.read_bytes()[:4].decode()), told
    for one in (handle, restored):
        await driver.destroy(one)


async def check_full_memory_in_a_shell(lab: Lab) -> None:
    """A guest that uses most of its memory, with a quarter of a core, comes up in one within its bounds."""
    bounds = Resources(cpu=0.25, memory_mib=256)
    driver, ground = lab.driver(), await lab.prepare(bounds)
    if (kind := await _kind(lab, driver, bounds)) is None:
        return
    handle = await driver.start(await driver.create(ground.spec))
    await guest_tasks.begin(lab, ground, guest_tasks.FILL.format(mib=250), "test -e /root/ready")
    async with asyncio.timeout(PROMPT_S):
        _, ((copy, restored),) = await _in_shells(lab, driver, ground, handle, kind, bounds)
    seen = await lab.run(copy, "awk '/^MemTotal/ {print $2}' /proc/meminfo")
    assert seen.output == f"{256 * 1024}\n", seen
    status = await driver.inspect(restored)
    assert status.state is TaskState.RUNNING and not status.out_of_memory, status
    for one in (handle, restored):
        await driver.destroy(one)


async def check_a_shell_of_another_kind_is_refused(lab: Lab) -> None:
    """A guest with other bounds of memory, or with a sudo of its own, does not go into it."""
    driver, ground = lab.driver(), await lab.prepare()
    if (kind := await _kind(lab, driver)) is None:
        return
    handle = await driver.start(await driver.create(ground.spec))
    await lab.run(ground, "true")
    more = Resources(memory_mib=768, disk_mib=256)
    assert await driver.shell_kind(more) == replace(kind, memory_mib=768)
    for other, resources in (
        (replace(kind, memory_mib=768), more),
        (replace(kind, agent_sudo=not kind.agent_sudo), None),
    ):
        shell = await lab.prepare_shell(other, resources)
        waits = await driver.prepare(shell)
        image, _ = await save(lab, driver, ground, handle, copies=0)
        assert await driver.shell_kind(shell.resources, image) != other
        copy = await lab.furnish(shell, ground)
        try:
            await driver.restore(copy.spec, image, waits)
        except FailedPrecondition as error:
            assert "another kind" in error.message, error
        else:
            raise AssertionError(f"a guest went on in a shell of another kind: {other}")
        await driver.destroy(waits)
        assert lab.leftovers(copy) == []
    await driver.destroy(handle)


async def check_a_damaged_image_in_a_shell(lab: Lab) -> None:
    """A guest that does not come up in one raises in words, and leaves nothing that `destroy` does not remove."""
    driver, ground = lab.driver(), await lab.prepare()
    if (kind := await _kind(lab, driver)) is None:
        return
    handle = await driver.start(await driver.create(ground.spec))
    await lab.run(ground, "true")
    shell = await lab.prepare_shell(kind)
    waits = await driver.prepare(shell)
    image, _ = await save(lab, driver, ground, handle, copies=0)
    copy = await lab.furnish(shell, ground)
    (image / "checkpoint.img").write_bytes(b"nothing")
    try:
        await driver.restore(copy.spec, image, waits)
    except AtollError as error:
        assert len(error.message) > 20, error
    else:
        raise AssertionError("a sandbox came up from a damaged save")
    for one in (waits, handle):
        await driver.destroy(one)
    assert lab.leftovers(copy) == []


async def check_a_waiting_shell_is_found_and_removed(lab: Lab) -> None:
    """One that waits counts as created; its daemon's successor lists it and removes all of it."""
    driver = lab.driver()
    if (kind := await _kind(lab, driver)) is None:
        return
    for successor in (driver, lab.driver()):
        shell = await lab.prepare_shell(kind)
        handle = await driver.prepare(shell)
        found = successor.handle_for(shell.id, shell.directory)
        for known in (handle, found):
            assert (await successor.inspect(known)).state is TaskState.CREATED
        assert (await successor.recover(handle)).state is TaskState.CREATED
        assert shell.id in await successor.list_owned()
        async with asyncio.timeout(PROMPT_S):
            await successor.destroy(found)
        assert shell.id not in await successor.list_owned()
        assert lab.leftovers(lab.ground_of(shell)) == []
        assert (await successor.inspect(handle)).state is TaskState.GONE


async def _in_shells(
    lab: Lab,
    driver: RuntimeDriver,
    ground: Ground,
    handle: Handle,
    kind: ShellKind,
    resources: Resources | None = None,
    count: int = 1,
) -> tuple[Path, list[tuple[Ground, Handle]]]:
    """Save a running guest and let it go on also in shells prepared before: the memory, and those guests."""
    shells = [await lab.prepare_shell(kind, resources) for _ in range(count)]
    waiting = [await driver.prepare(shell) for shell in shells]
    image = lab.empty_directory()
    await driver.suspend(handle)
    await driver.checkpoint(handle, image, end_connections=False)
    grounds = [await lab.furnish(shell, ground) for shell in shells]
    await driver.unsuspend(handle)
    assert await driver.shell_kind(ground.spec.resources, image) == kind
    pairs = zip(grounds, waiting, strict=True)
    return image, [(ground, await driver.restore(ground.spec, image, waits)) for ground, waits in pairs]


async def _kind(lab: Lab, driver: RuntimeDriver, resources: Resources | None = None) -> ShellKind | None:
    """What most guests need; None when the driver says that it lacks the power, and it refuses in the same words."""
    kind = await driver.shell_kind(resources or Resources())
    sentence = (await driver.fingerprint()).missing.get(Power.PREPARED)
    if sentence is None:
        assert kind is not None
        return kind
    assert kind is None and len(sentence) > 40, sentence
    nothing = ShellKind(512, 512, 2, False)
    shell = await lab.prepare_shell(nothing)
    try:
        await driver.prepare(shell)
    except FailedPrecondition as error:
        assert error.message == sentence
    else:
        raise AssertionError(f"it did what it says it cannot: {sentence}")
    await driver.destroy(driver.handle_for(shell.id, shell.directory))
    return None
