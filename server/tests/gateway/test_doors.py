"""WebSockets, server-sent events and bodies of unknown length, by each way into a port, with a program behind it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from typing import TypeAlias

import pytest

from .conftest import ID, Client, Edge

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE = 1, 8


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One WebSocket frame, final, of at most 125 bytes."""
    masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload
    return bytes((0x80 | opcode, (0x80 if mask else 0) | len(payload))) + mask + masked


async def read_frame(reader: Reader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload


async def fields(reader: Reader) -> dict[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.strip().split(b"\r\n")
    return {b"": lines[0], **{name.lower(): value for name, value in (line.split(b": ", 1) for line in lines[1:])}}


class Door:
    """One way to reach port `edge.sandbox.port`."""

    def __init__(self, edge: Edge, kind: str) -> None:
        port = edge.sandbox.port
        self.path = edge.port_path(port, "/x") if kind == "path" else "/x"
        self.key = kind == "path"
        self.host = f"{port}-{ID}.sandbox.test" if kind == "host" else "localhost:8880"
        self.headers = [f"E2b-Sandbox-Id: {ID}", f"E2b-Sandbox-Port: {port}"] if kind == "headers" else []
        if self.key:
            self.headers = [f"x-api-key: e2b_{'0' * 40}"]
        self._edge = edge

    async def ask(self, method: str, *headers: str) -> Client:
        client = await self._edge.client()
        lines = [f"{method} {self.path} HTTP/1.1", f"host: {self.host}", *self.headers, *headers]
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        return client


@pytest.fixture(params=["path", "headers", "host"])
def door(edge: Edge, request: pytest.FixtureRequest) -> Door:
    # The agent is out of reach: a port that listens on every address of its sandbox is dialled directly.
    edge.directory.endpoints[ID].address = "127.0.0.1:1"
    return Door(edge, request.param)


async def test_a_websocket(edge: Edge, door: Door) -> None:
    async def program(reader: Reader, writer: Writer) -> None:
        asked = await fields(reader)
        assert asked[b"sec-websocket-protocol"] == b"chat"
        proof = base64.b64encode(hashlib.sha1(asked[b"sec-websocket-key"] + GUID).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + proof + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
        writer.write(frame(TEXT, b"welcome"))
        while True:
            opcode, payload = await read_frame(reader)
            writer.write(frame(opcode, payload))
            if opcode == CLOSE:
                return

    edge.sandbox.script = program
    key = base64.b64encode(os.urandom(16))
    client = await door.ask(
        "GET",
        "connection: keep-alive, Upgrade",
        "upgrade: websocket",
        f"sec-websocket-key: {key.decode()}",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
    )
    status, headers = await client.head()
    assert status == 101 and headers["sec-websocket-protocol"] == "chat"
    assert headers["sec-websocket-accept"] == base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    assert await read_frame(client.reader) == (TEXT, b"welcome")
    for text in (b"one", b"", b"x" * 125):
        client.send(frame(TEXT, text, mask=b"\x01\x02\x03\x04"))
        assert await read_frame(client.reader) == (TEXT, text)
    client.send(frame(CLOSE, b"\x03\xe8", mask=b"abcd"))
    assert await read_frame(client.reader) == (CLOSE, b"\x03\xe8")
    assert await client.reader.read() == b""


async def test_server_sent_events_arrive_one_by_one(edge: Edge, door: Door) -> None:
    seen = asyncio.Queue[None]()

    async def program(reader: Reader, writer: Writer) -> None:
        assert (await fields(reader))[b"accept"] == b"text/event-stream"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = b"id: %d\ndata: {}\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            # The next one comes only after this one was read.
            await seen.get()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    edge.sandbox.script = program
    client = await door.ask("GET", "accept: text/event-stream")
    status, headers = await client.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    for number in range(3):
        await client.reader.readuntil(b"id: %d\ndata: {}\n\n\r\n" % number)
        seen.put_nowait(None)
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_bodies_of_unknown_length_both_ways_at_once(edge: Edge, door: Door) -> None:
    async def program(reader: Reader, writer: Writer) -> None:
        assert (await fields(reader))[b"transfer-encoding"] == b"chunked"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            data = (await reader.readexactly(size + 2))[:-2]
            writer.write(b"%x\r\n%b\r\n" % (size, data.upper()))
        await reader.readexactly(2)
        writer.write(b"0\r\n\r\n")
        await reader.read()

    edge.sandbox.script = program
    client = await door.ask("POST", "transfer-encoding: chunked")
    client.send(b"3\r\none\r\n")
    assert (await client.head())[0] == 200
    assert await client.reader.readexactly(8) == b"3\r\nONE\r\n"
    client.send(b"3\r\ntwo\r\n")
    assert await client.reader.readexactly(8) == b"3\r\nTWO\r\n"
    client.send(b"0\r\n\r\n")
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_either_side_of_a_changed_protocol_may_stop_speaking_first(edge: Edge, door: Door) -> None:
    async def program(reader: Reader, writer: Writer) -> None:
        await fields(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        heard = await reader.read()
        writer.write(b"heard " + heard)

    edge.sandbox.script = program
    client = await door.ask("GET", "connection: upgrade", "upgrade: raw")
    assert (await client.head())[0] == 101
    client.send(b"everything")
    client.writer.write_eof()
    assert await client.reader.read() == b"heard everything"


async def test_a_program_that_ends_its_answer_by_closing(edge: Edge, door: Door) -> None:
    async def program(reader: Reader, writer: Writer) -> None:
        await fields(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    edge.sandbox.script = program
    client = await door.ask("GET")
    status, _, body = await client.response()
    assert (status, body) == (200, b"all of it")
