from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import AsyncMock

import pytest

from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.daemon.watched import WatchedNode
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Internal
from atolld.foundation.ids import SandboxId, new_sandbox_id, new_snapshot_id
from atolld.node.fake import FakeNode
from atolld.node.interface import After, Claim, Death, Launch, Node

LAUNCH = Launch(new_sandbox_id(), "fake", (), Resources(), NetworkPolicy(), {}, "t", "base", "h")


@pytest.fixture
def ended() -> list[SandboxId]:
    return []


@pytest.fixture
def cuts() -> list[str]:
    return []


@pytest.fixture
def inner() -> FakeNode:
    return FakeNode(ManualClock())


@pytest.fixture
def busy() -> list[str]:
    return []


@pytest.fixture
def node(inner: FakeNode, ended: list[SandboxId], cuts: list[str], busy: list[str]) -> Node:
    """`busy`: what was told of work. `cuts`: "open" when the open connections were noted, "cut" when those were cut."""

    def interrupting(id: SandboxId) -> Callable[[], None]:
        cuts.append("open")
        return lambda: cuts.append("cut")

    @contextmanager
    def at_work() -> Iterator[None]:
        busy.append("begun")
        try:
            yield
        finally:
            busy.append("ended")

    return WatchedNode(inner, ended.append, interrupting, at_work)


async def test_a_terminate_is_told(node: Node, ended: list[SandboxId]) -> None:
    await node.launch(LAUNCH)
    assert ended == []
    await node.terminate(LAUNCH.id)
    assert ended == [LAUNCH.id]


async def test_a_seal_is_an_end(node: Node, inner: FakeNode, ended: list[SandboxId]) -> None:
    await node.launch(LAUNCH)
    inner.machine.sandboxes[LAUNCH.id].files["/a"] = b"x"
    assert await node.seal(LAUNCH.id, "ab" * 32, {"n": 1}, forbidden=["y"])
    assert ended == [LAUNCH.id]
    assert inner.machine.layers["ab" * 32].manifest == {"n": 1}


async def test_a_terminate_that_fails_is_told_too(node: Node, inner: FakeNode, ended: list[SandboxId]) -> None:
    await node.launch(LAUNCH)
    inner.fail("terminate", Internal("no"))
    with pytest.raises(Internal):
        await node.terminate(LAUNCH.id)
    assert ended == [LAUNCH.id]


async def test_a_death_is_told_first_here_and_then_to_control(
    node: Node, inner: FakeNode, ended: list[SandboxId]
) -> None:
    deaths: list[Death] = []

    async def on_death(death: Death) -> None:
        assert ended == [death.id]
        deaths.append(death)

    await node.start(on_death)
    await node.launch(LAUNCH)
    await inner.die(LAUNCH.id)
    assert [death.id for death in deaths] == [LAUNCH.id]


@pytest.mark.parametrize("failure", [None, Internal("no")])
@pytest.mark.parametrize(
    ("kind", "after", "told"),
    [
        (SaveKind.MEMORY, After.GO_ON, ["open", "cut"]),
        # It stands still, so whatever came in between is of no use either.
        (SaveKind.MEMORY, After.STAND, ["open", "open", "cut", "cut"]),
        (SaveKind.FILESYSTEM, After.STAND, ["open", "open", "cut", "cut"]),
        (SaveKind.FILESYSTEM, After.GO_ON, []),
    ],
)
async def test_a_save_that_ends_connections_is_told(
    node: Node,
    inner: FakeNode,
    cuts: list[str],
    kind: SaveKind,
    after: After,
    told: list[str],
    failure: Exception | None,
) -> None:
    await node.launch(LAUNCH)
    if failure is not None:
        inner.fail("saving", failure)
    with pytest.raises(Internal) if failure else nullcontext():
        await node.save(LAUNCH.id, new_snapshot_id(), kind, after)
    assert cuts == told


async def test_a_freeze_is_told_and_a_thaw_is_not(node: Node, ended: list[SandboxId], cuts: list[str]) -> None:
    await node.launch(LAUNCH)
    await node.freeze(LAUNCH.id)
    assert cuts == ["open", "cut"]
    await node.thaw(LAUNCH.id)
    assert cuts == ["open", "cut"] and ended == []


Work = Callable[[Node], Awaitable[object]]


@pytest.mark.parametrize(
    "work",
    [
        lambda node: node.save(LAUNCH.id, new_snapshot_id(), SaveKind.MEMORY, After.GO_ON),
        lambda node: node.save(LAUNCH.id, new_snapshot_id(), SaveKind.FILESYSTEM, After.GO_ON),
        lambda node: node.go_on(LAUNCH.id),
        lambda node: node.freeze(LAUNCH.id),
        lambda node: node.thaw(LAUNCH.id),
        lambda node: node.claim(LAUNCH.id, Claim({}, NetworkPolicy(), LAUNCH.resources)),
        lambda node: node.terminate(LAUNCH.id),
    ],
)
async def test_what_somebody_waits_for_is_told_as_work(node: Node, busy: list[str], work: Work) -> None:
    await node.launch(LAUNCH)
    assert busy == ["begun", "ended"]
    await work(node)
    assert busy == ["begun", "ended"] * 2


async def test_a_launch_that_fails_is_told_as_ended(node: Node, inner: FakeNode, busy: list[str]) -> None:
    inner.fail("launch", Internal("no"))
    with pytest.raises(Internal):
        await node.launch(LAUNCH)
    assert busy == ["begun", "ended"]


async def test_everything_else_passes(node: Node, inner: FakeNode) -> None:
    await node.launch(LAUNCH)
    await node.set_network(LAUNCH.id, NetworkPolicy(False))
    assert inner.machine.sandboxes[LAUNCH.id].network == NetworkPolicy(False)
    assert (await node.usage(LAUNCH.id)).cpu_count == 1.0
    assert await node.logs(LAUNCH.id, 10) == b""
    assert node.capacity().sandboxes == 1
    assert node.gauges() == {"node_sandboxes_running": 1.0}
    assert (await node.fingerprints()).keys() == {"fake"}
    claim = Claim({"B": "2"}, NetworkPolicy(), LAUNCH.resources)
    await node.claim(LAUNCH.id, claim)
    assert inner.machine.sandboxes[LAUNCH.id].envs["B"] == "2"
    await node.go_on(LAUNCH.id)
    save, copy = new_snapshot_id(), new_snapshot_id()
    saved = await node.save(LAUNCH.id, save, SaveKind.FILESYSTEM, After.GO_ON)
    assert await node.saved(save) == saved == await node.import_save(copy, node.export_save(save, {}), AsyncMock())
    assert await node.diff_saves(save, copy, 10) == []
    await node.discard_save(save)
    assert await node.sweep_saves([]) == [copy]
    assert await node.recover([]) == {}
    await node.close()
