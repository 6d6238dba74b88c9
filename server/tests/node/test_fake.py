from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import (
    AlreadyExists,
    Capacity,
    FailedPrecondition,
    GuestUnreachable,
    InvalidArgument,
    NotFound,
)
from atolld.foundation.ids import SandboxId, new_sandbox_id, new_snapshot_id
from atolld.node.fake import FakeNode, FakeSandbox
from atolld.node.interface import After, Claim, Death, Known, Launch, Node, Source
from atolld.runtime.driver import Power


def _launch(id: SandboxId, runtime: str = "fake") -> Launch:
    return Launch(id, runtime, (Path("/layer"),), Resources(), NetworkPolicy(), {}, "token", "t", "box")


def _known(id: SandboxId) -> Known:
    return Known(id, "fake", Resources(), None, None, "token", NetworkPolicy())


async def test_life() -> None:
    fake = FakeNode(ManualClock(5.0))
    node: Node = fake
    deaths: list[Death] = []

    async def on_death(death: Death) -> None:
        deaths.append(death)

    await node.start(on_death)
    first, second = new_sandbox_id(), new_sandbox_id()
    addresses = {(await node.launch(_launch(id))).address for id in (first, second)}
    assert len(addresses) == 2
    with pytest.raises(AlreadyExists):
        await node.launch(_launch(first))
    assert (await node.usage(first)).at == 5.0
    await node.set_network(first, NetworkPolicy(internet=False))
    assert (node.capacity().sandboxes, node.gauges()) == (2, {"node_sandboxes_running": 2.0})
    await fake.die(first, EndReason.OUT_OF_MEMORY, "big")
    assert deaths == [Death(first, EndReason.OUT_OF_MEMORY, "big")]
    await node.terminate(second)
    await node.terminate(second)
    for call in (node.usage(second), node.logs(second, 5), node.set_network(second, NetworkPolicy())):
        with pytest.raises(NotFound):
            await call
    assert len(deaths) == 1
    assert list(await node.fingerprints()) == ["fake"]
    await node.close()


async def test_room_and_runtimes() -> None:
    node = FakeNode(ManualClock(), max_sandboxes=1)
    with pytest.raises(NotFound, match="runtime"):
        await node.launch(_launch(new_sandbox_id(), "other"))
    await node.launch(_launch(new_sandbox_id()))
    with pytest.raises(Capacity):
        await node.launch(_launch(new_sandbox_id()))


@pytest.mark.parametrize("place", ["launch", "launched"])
async def test_a_cancelled_launch_leaves_nothing(place: str) -> None:
    node = FakeNode(ManualClock())
    gate = node.hold(place)
    task = spawn(node.launch(_launch(new_sandbox_id())), name="launch")
    await gate.reached.wait()
    await cancel_and_wait(task)
    assert node.machine.sandboxes == {}
    assert node.capacity().sandboxes == 0


async def test_recovery_keeps_what_is_known_and_sweeps_the_rest() -> None:
    clock = ManualClock()
    before = FakeNode(clock)
    kept, unknown, died, lost = (new_sandbox_id() for _ in range(4))
    for id in (kept, unknown, died):
        await before.launch(_launch(id))
    before.die_unseen(died, EndReason.OUT_OF_MEMORY, "big")
    after = FakeNode(clock, before.machine)
    outcome = await after.recover([_known(id) for id in (kept, died, lost)])
    assert outcome[kept] is None
    assert outcome[died] == Death(died, EndReason.OUT_OF_MEMORY, "big")
    found = outcome[lost]
    assert found is not None
    assert found.reason is EndReason.CRASHED
    assert list(after.machine.sandboxes) == [kept]


async def _running(node: FakeNode, id: SandboxId) -> FakeSandbox:
    await node.launch(_launch(id))
    here = node.machine.sandboxes[id]
    here.memory["n"], here.files["/a"] = 1, b"one"
    return here


@pytest.mark.parametrize(
    ("kind", "memory", "envs"), [(SaveKind.MEMORY, {"n": 1}, {"A": "1"}), (SaveKind.FILESYSTEM, {}, {})]
)
async def test_a_launch_from_a_save_has_what_was_saved(
    kind: SaveKind, memory: dict[str, object], envs: dict[str, str]
) -> None:
    node = FakeNode(ManualClock())
    first, second, save = new_sandbox_id(), new_sandbox_id(), new_snapshot_id()
    here = await _running(node, first)
    here.envs["A"] = "1"
    saved = await node.save(first, save, kind, After.GO_ON)
    here.memory["n"], here.files["/a"] = 2, b"two"
    assert not here.standing
    assert await node.saved(save) == saved
    after = FakeNode(ManualClock(), node.machine)
    await after.launch(replace(_launch(second), source=Source(save, kind, "token"), agent_token="new"))
    there = after.machine.sandboxes[second]
    assert (there.memory, there.files, there.envs, there.agent_token) == (memory, {"/a": b"one"}, envs, "new")
    there.files["/a"] = b"three"
    assert here.files["/a"] == b"two" and node.machine.saves[save].files["/a"] == b"one"


async def test_the_same_address_again_when_it_is_free() -> None:
    node = FakeNode(ManualClock())
    first, second = new_sandbox_id(), new_sandbox_id()
    launched = await node.launch(_launch(first))
    other = await node.launch(replace(_launch(second), formerly=launched.handle))
    assert other.address != launched.address
    await node.terminate(first)
    assert (await node.launch(replace(_launch(first), formerly=launched.handle))).address == launched.address


@pytest.mark.parametrize("place", ["save", "saving", "saved"])
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_save_that_does_not_end_well_leaves_nothing(place: str, how: str) -> None:
    node = FakeNode(ManualClock())
    id, save = new_sandbox_id(), new_snapshot_id()
    here = await _running(node, id)
    gate = node.hold(place)
    if how == "fails":
        node.fail(place, Capacity("full"))
    task = spawn(node.save(id, save, SaveKind.MEMORY, After.STAND), name="save", report=False)
    await gate.reached.wait()
    if how == "fails":
        gate.opened.set()
        with pytest.raises(Capacity):
            await task
    else:
        await cancel_and_wait(task)
    assert not here.standing and node.machine.saves == {}


async def test_a_sandbox_that_dies_while_it_is_saved() -> None:
    node = FakeNode(ManualClock())
    id = new_sandbox_id()
    await _running(node, id)
    gate = node.hold("saving")
    task = spawn(node.save(id, new_snapshot_id(), SaveKind.MEMORY, After.STAND), name="save", report=False)
    await gate.reached.wait()
    await node.die(id)
    gate.opened.set()
    with pytest.raises(NotFound):
        await task
    assert node.machine.saves == {}


async def test_an_interrupted_save_is_not_whole_and_swept() -> None:
    node = FakeNode(ManualClock())
    id, kept, half = new_sandbox_id(), new_snapshot_id(), new_snapshot_id()
    await _running(node, id)
    await node.save(id, kept, SaveKind.MEMORY, After.GO_ON)
    gate = node.hold("saving")
    task = spawn(node.save(id, half, SaveKind.MEMORY, After.STAND), name="save")
    await gate.reached.wait()
    assert await node.saved(half) is None
    after = FakeNode(ManualClock(), node.machine)
    await after.recover([replace(_known(id), standing=True, frozen=True)])
    assert list(await after.sweep_saves([kept])) == [half]
    here = after.machine.sandboxes[id]
    assert here.frozen and not here.standing and list(after.machine.saves) == [kept]
    await cancel_and_wait(task)


async def test_a_save_is_not_deleted_under_a_launch() -> None:
    node = FakeNode(ManualClock())
    first, save = new_sandbox_id(), new_snapshot_id()
    await _running(node, first)
    await node.save(first, save, SaveKind.MEMORY, After.GO_ON)
    gate = node.hold("launch")
    what = replace(_launch(new_sandbox_id()), source=Source(save, SaveKind.MEMORY, "token"))
    launching = spawn(node.launch(what), name="launch")
    await gate.reached.wait()
    discarding = spawn(node.discard_save(save), name="discard")
    for _ in range(5):
        await asyncio.sleep(0)
    assert save in node.machine.saves and list(await node.sweep_saves([])) == []
    with pytest.raises(NotFound, match="being deleted"):
        await node.launch(replace(what, id=new_sandbox_id()))
    gate.opened.set()
    await launching
    await discarding
    assert node.machine.saves == {}
    await node.discard_save(save)


async def test_what_cannot_be_used() -> None:
    node = FakeNode(ManualClock())
    id, save = new_sandbox_id(), new_snapshot_id()
    source = Source(save, SaveKind.MEMORY, "token")
    await _running(node, id)
    other = replace(_launch(new_sandbox_id()), source=source)
    with pytest.raises(NotFound):
        await node.launch(other)
    await node.save(id, save, SaveKind.MEMORY, After.GO_ON)
    with pytest.raises(GuestUnreachable):
        await node.launch(replace(other, source=replace(source, agent_token="wrong")))
    from_files = replace(other, id=new_sandbox_id(), source=replace(source, kind=SaveKind.FILESYSTEM))
    await node.launch(from_files)
    await node.terminate(from_files.id)
    files_only = new_snapshot_id()
    await node.save(id, files_only, SaveKind.FILESYSTEM, After.GO_ON)
    with pytest.raises(FailedPrecondition, match="no memory"):
        await node.launch(replace(other, source=replace(source, save_id=files_only)))
    node.machine.saves[save].damaged = "pages.img is short"
    with pytest.raises(FailedPrecondition, match="short"):
        await node.launch(other)
    node.missing = {power: "not here" for power in Power}
    for call in (node.save(id, new_snapshot_id(), SaveKind.MEMORY, After.STAND), node.freeze(id), node.launch(other)):
        with pytest.raises(FailedPrecondition, match="not here"):
            await call
    await node.save(id, new_snapshot_id(), SaveKind.FILESYSTEM, After.STAND)
    await node.go_on(id)
    assert list(node.machine.sandboxes) == [id]


async def test_freezing_and_claiming() -> None:
    node = FakeNode(ManualClock())
    id = new_sandbox_id()
    here = await _running(node, id)
    await node.freeze(id)
    assert here.frozen and (await node.usage(id)).cpu_count == 1.0
    await node.thaw(id)
    claim = Claim({"B": "2"}, NetworkPolicy(internet=False), Resources(cpu=2))
    with pytest.raises(NotFound):
        await node.claim(new_sandbox_id(), claim)
    with pytest.raises(FailedPrecondition):
        await node.claim(id, replace(claim, resources=Resources(memory_mib=64)))
    await node.claim(id, claim)
    assert (here.frozen, here.agent_token, here.envs, here.cpu) == (False, "token", {"B": "2"}, 2)


async def test_archives_and_differences() -> None:
    node = FakeNode(ManualClock())
    id, older, newer, copy = new_sandbox_id(), new_snapshot_id(), new_snapshot_id(), new_snapshot_id()
    here = await _running(node, id)
    here.files["/b"] = b""
    await node.save(id, older, SaveKind.MEMORY, After.GO_ON)
    here.files = {"/a": b"other", "/c": b"new"}
    saved = await node.save(id, newer, SaveKind.MEMORY, After.GO_ON)
    changes = [(one.path, one.change, one.size_bytes) for one in await node.diff_saves(older, newer, 9)]
    assert changes == [("/a", "changed", 5), ("/b", "removed", 0), ("/c", "added", 3)]
    assert [one.path for one in await node.diff_saves(None, newer, 1)] == ["/a"]
    there = FakeNode(ManualClock())
    seen: list[object] = []

    async def admit(facts: Mapping[str, object], expected: Saved) -> None:
        seen.append((dict(facts), expected))
        assert copy not in there.machine.saves

    assert await there.import_save(copy, node.export_save(newer, {"name": "n"}), admit) == saved
    assert seen == [({"name": "n"}, saved)]
    assert (there.machine.saves[copy].files, there.machine.saves[copy].memory) == (here.files, here.memory)

    async def broken() -> AsyncIterator[bytes]:
        yield b"PK"

    with pytest.raises(InvalidArgument):
        await there.import_save(new_snapshot_id(), broken(), admit)
    assert list(there.machine.saves) == [copy]
