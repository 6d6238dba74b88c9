"""Changes of protocol: WebSockets and whatever else a program speaks, as raw bytes."""

from __future__ import annotations

import asyncio
import json
from typing import TypeAlias

import pytest

from atolld.control.testing import until
from atolld.gateway.server import Limits

from .conftest import ID, KEY, Edge, EdgeFactory

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
UPGRADE = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-key: abc")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"sec-websocket-accept: xyz\r\n\r\n"
)


@pytest.fixture
def path(edge: Edge) -> str:
    """A port of the sandbox that is dialled directly; the agent is out of reach."""
    edge.directory.endpoints[ID].address = "127.0.0.1:1"
    return edge.port_path(edge.sandbox.port, "/ws")


async def test_bytes_pass_both_ways_untouched(edge: Edge, path: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH + b"first")
        while data := await reader.read(100):
            writer.write(data.upper())

    edge.sandbox.script = script
    client = await edge.client()
    # Bytes behind the request belong to the new protocol already.
    client.request("GET", path, *UPGRADE, body=b"early")
    status, headers = await client.head()
    assert status == 101 and headers["sec-websocket-accept"] == "xyz" and headers["upgrade"] == "websocket"
    assert await client.reader.readexactly(10) == b"firstEARLY"
    client.send(b"\x00\xffabc")
    assert await client.reader.readexactly(5) == b"\x00\xffABC"
    head = edge.sandbox.heads[0].lower()
    assert b"connection: upgrade\r\n" in head and b"upgrade: websocket\r\n" in head and KEY.encode() not in head


async def test_an_end_of_one_direction_is_passed_on_alone(edge: Edge, path: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        asked = await reader.read()
        writer.write(b"you said " + asked)

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", path, *UPGRADE)
    await client.head()
    client.send(b"all")
    client.writer.write_eof()
    assert await client.reader.read() == b"you said all"


async def test_a_client_that_goes_away_ends_it(edge: Edge, path: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        assert await reader.read() == b""

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", path, *UPGRADE)
    await client.head()
    client.writer.transport.abort()
    await asyncio.wait_for(edge.sandbox.closed.wait(), 5)
    await until(lambda: edge.gateway.pool.connections() == 0)


async def test_a_sandbox_that_ends_cuts_it(edge: Edge, path: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", path, *UPGRADE)
    await client.head()
    edge.gateway.sandbox_ended(ID)
    assert await client.reader.read() == b""


async def test_a_program_may_refuse(edge: Edge, path: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", path, *UPGRADE)
    status, headers, body = await client.response()
    assert (status, body, headers["connection"]) == (403, b"no", "close")
    assert await client.reader.read() == b""


async def test_who_may_not_pass(edge: Edge, path: str) -> None:
    client = await edge.client()
    client.request("GET", path, *UPGRADE, key="")
    status, _, body = await client.response()
    assert (status, json.loads(body)["error"]["code"]) == (401, "unauthenticated")


async def test_a_wish_nobody_can_grant_is_an_ordinary_request(edge: Edge) -> None:
    # curl asks every plain-text server for h2c.
    client = await edge.client()
    client.request("GET", "/v1/anything", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c")
    status, headers, body = await client.response()
    assert (status, body, headers["connection"]) == (200, b"api:", "close")


async def test_a_side_that_takes_nothing_stops_the_other(edge: Edge, path: str) -> None:
    stalled = asyncio.Event()
    written = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal written
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        try:
            while True:
                writer.write(b"x" * 65536)
                await asyncio.wait_for(writer.drain(), 0.5)
                written += 65536
        except TimeoutError:
            stalled.set()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", path, *UPGRADE)
    await client.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.wait_for(stalled.wait(), 20)
    assert written < 40 * 1024 * 1024


async def test_bytes_before_the_answer_are_bounded(make_edge: EdgeFactory) -> None:
    edge = await make_edge(Limits(tunnel_tail_bytes=1024))
    edge.directory.endpoints[ID].address = "127.0.0.1:1"
    go = asyncio.Event()
    total = 300_000

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        await go.wait()
        writer.write(SWITCH)
        assert len(await reader.readexactly(total)) == total
        writer.write(b"got it")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.port_path(edge.sandbox.port), *UPGRADE, body=b"x" * total)
    await until(lambda: bool(edge.sandbox.heads))
    go.set()
    assert (await client.head())[0] == 101
    assert await client.reader.readexactly(6) == b"got it"
