from __future__ import annotations

from pathlib import Path

import pytest

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import AlreadyExists, Capacity, NotFound
from atolld.foundation.ids import SandboxId, new_sandbox_id
from atolld.node.fake import FakeNode
from atolld.node.interface import Death, Known, Launch, Node


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
