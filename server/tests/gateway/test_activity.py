"""Who is in use: the count is right at every end that an exchange can have."""

from __future__ import annotations

import asyncio

import pytest

from atolld.control.testing import until
from atolld.core.lifecycle import SandboxState
from atolld.foundation.clock import ManualClock
from atolld.foundation.ids import SandboxId
from atolld.gateway.activity import Activity

from .conftest import ID, Edge

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


async def test_counts_and_times(clock: ManualClock) -> None:
    activity = Activity(clock.monotonic)
    assert not activity.busy(ID) and activity.idle_since(ID) is None
    with activity.in_flight(ID):
        assert activity.busy(ID) and activity.idle_since(ID) is None
        with pytest.raises(ValueError), activity.in_flight(ID):
            raise ValueError
        await clock.advance(5)
        assert activity.busy(ID) and activity.idle_since(ID) is None
    assert not activity.busy(ID) and activity.idle_since(ID) == 105.0
    await clock.advance(1)
    activity.touch(ID)
    assert activity.idle_since(ID) == 106.0 and not activity.busy(SandboxId("i0000000000000000001"))


def test_what_is_forgotten_in_flight_leaves_nothing(clock: ManualClock) -> None:
    activity = Activity(clock.monotonic)
    with activity.in_flight(ID):
        activity.forget(ID)
        assert not activity.busy(ID)
        with activity.in_flight(ID):
            assert activity.busy(ID)
    assert not activity.busy(ID) and activity.idle_since(ID) is not None
    activity.forget(ID)
    activity.forget(ID)
    assert activity.idle_since(ID) is None and activity._uses == {}


@pytest.mark.parametrize("response", [OK, CHUNKED, b"garbage\r\n\r\n", b"", SWITCH])
async def test_a_sandbox_that_answers_or_breaks_is_at_rest_afterwards(edge: Edge, response: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await edge.sandbox.head(reader)
        assert edge.gateway.activity.busy(ID)
        writer.write(response)

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent(), "connection: close")
    await client.reader.read()
    await until(lambda: not edge.gateway.activity.busy(ID))
    assert edge.gateway.activity.idle_since(ID) is not None


@pytest.mark.parametrize("first", [b"", CHUNKED])
@pytest.mark.parametrize("who", ["client", "sandbox"])
async def test_a_stream_counts_until_somebody_ends_it(edge: Edge, first: bytes, who: str) -> None:
    arrived, end = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await edge.sandbox.head(reader)
        writer.write(first)
        arrived.set()
        await (end.wait() if who == "sandbox" else reader.read())

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 0")
    await arrived.wait()
    assert edge.gateway.activity.busy(ID)
    if who == "client":
        client.writer.transport.abort()
    else:
        end.set()
    await until(lambda: not edge.gateway.activity.busy(ID))


async def test_an_upgraded_connection_counts_until_it_ends(edge: Edge) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.port_path(edge.sandbox.port), "connection: upgrade", "upgrade: x")
    assert (await client.head())[0] == 101
    assert edge.gateway.activity.busy(ID)
    client.writer.transport.abort()
    await until(lambda: not edge.gateway.activity.busy(ID))


async def test_200_at_once_of_which_some_break(edge: Edge) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await edge.sandbox.head(reader)
        writer.write(OK if b"GET /ok" in head else CHUNKED if b"GET /cut" in head else b"")

    edge.sandbox.script = script

    async def one(number: int) -> None:
        client = await edge.client()
        client.request("GET", edge.agent(("/ok", "/cut", "/break", "/leave")[number % 4]), "connection: close")
        if number % 4 == 3:
            client.writer.transport.abort()
        else:
            await client.reader.read()

    await asyncio.gather(*(one(number) for number in range(200)))
    await until(lambda: not edge.gateway.activity.busy(ID))
    assert edge.gateway.activity._uses[ID].count == 0


@pytest.mark.parametrize(
    ("header", "path", "counts"),
    [("x-access-token: agent-token", "/x", True), ("x-access-token: wrong", "/x", False), ("a: b", "/health", False)],
)
async def test_who_may_not_pass_is_no_use(edge: Edge, header: str, path: str, counts: bool) -> None:
    client = await edge.client()
    client.request("GET", path, f"e2b-sandbox-id: {ID}", header, key="")
    assert (await client.response())[0] == 200
    assert (edge.gateway.activity.idle_since(ID) is not None) is counts


async def test_it_counts_while_it_is_woken(edge: Edge) -> None:
    edge.directory.endpoints[ID].state = SandboxState.PAUSED
    seen: list[bool] = []
    runs = edge.directory.runs

    async def wake(id: str) -> object:
        seen.append(edge.gateway.activity.busy(ID))
        return await runs(id)

    edge.directory.on_wake = wake  # type: ignore[assignment]
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.response())[0] == 200
    assert seen == [True] and not edge.gateway.activity.busy(ID)
