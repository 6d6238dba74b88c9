from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from atolld.core.lifecycle import EndReason
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SaveKind
from atolld.daemon.process_node import OneTemplate, ProcessNode, find_agent
from atolld.foundation.clock import SystemClock
from atolld.foundation.errors import FailedPrecondition, GuestUnreachable, NotFound
from atolld.foundation.ids import new_sandbox_id, new_snapshot_id
from atolld.node.interface import After, Claim, Death, Launch
from atolld.runtime.driver import Power

from .conftest import FAKE_AGENT


def launch() -> Launch:
    return Launch(new_sandbox_id(), "fake", (), Resources(), NetworkPolicy(), {"A": "1"}, "token", "base", "host")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ProcessNode]:
    made = ProcessNode(SystemClock(), FAKE_AGENT, tmp_path / "logs")
    yield made
    await made.close()


async def answers(address: str) -> bool:
    host, port = address.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_a_sandbox_is_an_agent_that_answers(node: ProcessNode, tmp_path: Path) -> None:
    what = launch()
    launched = await node.launch(what)
    assert await answers(launched.address)
    assert launched.phases_s.keys() == {"start", "agent"}
    assert b"/init" in await node.logs(what.id, 1000)
    await node.terminate(what.id)
    assert not await answers(launched.address)
    assert list((tmp_path / "logs").iterdir()) == []
    with pytest.raises(NotFound):
        await node.logs(what.id, 1000)
    await node.terminate(what.id)


async def test_a_mistake_in_a_sandbox_does_not_reach_the_machine(node: ProcessNode, tmp_path: Path) -> None:
    host, port = (await node.launch(launch())).address.split(":")

    async def write(path: Path) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /write{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        told = await reader.read()
        writer.close()
        return told.split(b"\r\n\r\n")[1]

    for path in (Path("/atoll-test"), Path("/etc/atoll-test"), Path.home() / "atoll-test", Path("/run/atoll-test")):
        await write(path)
        assert not path.exists()
    assert await write(Path("/etc/atoll-test")) in (b"OSError", b"PermissionError")
    scratch = Path("/tmp") / f"atoll-test-{port}"
    assert await write(scratch) == b"written"
    scratch.unlink()


async def test_an_agent_that_dies_is_told(node: ProcessNode) -> None:
    told: asyncio.Future[Death] = asyncio.get_running_loop().create_future()

    async def on_death(death: Death) -> None:
        told.set_result(death)

    await node.start(on_death)
    what = launch()
    host, port = (await node.launch(what)).address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /die HTTP/1.1\r\nhost: x\r\n\r\n")
    death = await asyncio.wait_for(told, 10)
    writer.close()
    assert (death.id, death.reason) == (what.id, EndReason.CRASHED)


async def test_an_agent_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "agent"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)
    node = ProcessNode(SystemClock(), broken, tmp_path / "logs")
    with pytest.raises((OSError, GuestUnreachable)):
        await node.launch(launch())
    assert node.capacity().sandboxes == 0


async def test_what_is_a_plain_process_cannot_be_saved(node: ProcessNode) -> None:
    what = launch()
    await node.launch(what)
    for call in (
        node.save(what.id, new_snapshot_id(), SaveKind.FILESYSTEM, After.GO_ON),
        node.freeze(what.id),
        node.import_save(new_snapshot_id(), node.export_save(new_snapshot_id(), {}), AsyncMock()),
    ):
        with pytest.raises(FailedPrecondition, match="ordinary processes"):
            await call
    assert set((await node.fingerprints())["fake"].missing) == {Power.CHECKPOINT, Power.RESTORE, Power.FREEZE}


async def test_a_claim_reaches_the_agent(node: ProcessNode) -> None:
    what = launch()
    await node.launch(what)
    await node.claim(what.id, Claim({"B": "2"}, NetworkPolicy(), what.resources))
    assert (await node.logs(what.id, 1000)).count(b"/init") == 2


async def test_it_claims_no_runtime_it_is_not(node: ProcessNode) -> None:
    with pytest.raises(NotFound, match="gvisor"):
        await node.launch(replace(launch(), runtime="gvisor"))
    assert (await node.fingerprints())["fake"].isolation.startswith("none")


async def test_the_end_of_the_node_ends_every_process(node: ProcessNode) -> None:
    launched = await node.launch(launch())
    await node.close()
    assert not await answers(launched.address)


def test_templates() -> None:
    assert [one.name for one in OneTemplate().list()] == ["base"]
    assert OneTemplate().get("base").name == "base"
    with pytest.raises(NotFound):
        OneTemplate().get("other")


def test_an_agent_must_be_there_and_runnable(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for path in (plain, tmp_path / "missing", tmp_path):
        with pytest.raises(FailedPrecondition, match="make agent"):
            find_agent(path)
    assert find_agent(FAKE_AGENT) == FAKE_AGENT
