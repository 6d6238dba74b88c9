"""One connection, driven by hand: what it makes of bytes, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from atolld.gateway.errors import UpstreamBroken
from atolld.gateway.upstream import MAX_QUEUED_BYTES, UpstreamConnection


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


Feed = Callable[[bytes], None]


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def connection(transport: FakeTransport) -> UpstreamConnection:
    made = UpstreamConnection()
    made.connection_made(transport)
    return made


@pytest.fixture
def feed(connection: UpstreamConnection) -> Feed:
    def feed(data: bytes) -> None:
        connection.get_buffer(-1)[: len(data)] = data
        connection.buffer_updated(len(data))

    return feed


async def body_of(connection: UpstreamConnection) -> bytes:
    body = b""
    while chunk := await connection.read():
        body += chunk
    return body


@pytest.mark.parametrize(
    "method, response, status, length, body, reusable",
    [
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, 2, b"ok", True),
        (b"GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, None, b"ok", True),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\n", 204, None, b"", True),
        (b"GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, 2, b"ok", False),
        (b"GET", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", 200, 0, b"", False),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, 9, b"", False),
    ],
)
async def test_answers(
    connection: UpstreamConnection,
    feed: Feed,
    method: bytes,
    response: bytes,
    status: int,
    length: int | None,
    body: bytes,
    reusable: bool,
) -> None:
    for cut in range(1, len(response)):
        connection.begin(method, b"")
        feed(response[:cut])
        feed(response[cut:])
        head = await connection.response_head()
        assert (head.status, head.length) == (status, length)
        assert await body_of(connection) == body
        assert connection.reusable is reusable
        if not reusable:
            return


async def test_a_reader_is_woken_by_each_piece(connection: UpstreamConnection, feed: Feed) -> None:
    connection.begin(b"GET", b"x")
    head = asyncio.ensure_future(connection.response_head())  # noqa: TID251
    await asyncio.sleep(0)
    assert not head.done()
    feed(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
    assert (await head).status == 200
    piece = asyncio.ensure_future(connection.read())  # noqa: TID251
    await asyncio.sleep(0)
    feed(b"ab")
    assert await piece == b"ab"
    feed(b"cd")
    assert await connection.read() == b"cd"
    assert await connection.read() == b""


async def test_reading_stops_while_nobody_takes(
    connection: UpstreamConnection, transport: FakeTransport, feed: Feed
) -> None:
    connection.begin(b"GET", b"")
    feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    assert not transport.paused
    piece = b"x" * (MAX_QUEUED_BYTES // 2)
    feed(piece)
    assert not transport.paused
    feed(piece)
    assert transport.paused
    await connection.read()
    assert transport.paused
    await connection.read()
    assert not transport.paused


async def test_writing_waits_while_the_other_end_takes_nothing(
    connection: UpstreamConnection, transport: FakeTransport
) -> None:
    connection.begin(b"POST", b"")
    await connection.write(b"a")
    connection.pause_writing()
    second = asyncio.ensure_future(connection.write(b"b"))  # noqa: TID251
    await asyncio.sleep(0)
    assert not second.done() and transport.written == b"ab"
    connection.resume_writing()
    await second


async def test_a_loss_wakes_everybody(connection: UpstreamConnection) -> None:
    connection.begin(b"POST", b"")
    connection.pause_writing()
    reader = asyncio.ensure_future(connection.response_head())  # noqa: TID251
    writer = asyncio.ensure_future(connection.write(b"b"))  # noqa: TID251
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(UpstreamBroken) as caught:
        await reader
    assert caught.value.nothing_received
    await writer
    with pytest.raises(UpstreamBroken):
        await connection.write(b"c")


async def test_what_came_before_a_loss_is_still_delivered(connection: UpstreamConnection, feed: Feed) -> None:
    connection.begin(b"GET", b"")
    feed(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
    connection.connection_lost(ConnectionResetError())
    assert await connection.read() == b"abc"
    with pytest.raises(UpstreamBroken) as caught:
        await connection.read()
    assert not caught.value.nothing_received


async def test_bytes_nobody_asked_for_close_it(
    connection: UpstreamConnection, transport: FakeTransport, feed: Feed
) -> None:
    feed(b"HTTP/1.1 200 OK\r\n\r\n")
    assert transport.aborted and not connection.alive


async def test_on_lost_is_called_once() -> None:
    lost: list[UpstreamConnection] = []
    connection = UpstreamConnection(lost.append)
    connection.connection_made(FakeTransport())
    connection.connection_lost(None)
    connection.connection_lost(None)
    assert lost == [connection]


async def test_why_it_was_cut_is_told(connection: UpstreamConnection) -> None:
    connection.begin(b"GET", b"")
    connection.abort(UpstreamBroken("the sandbox ended"))
    with pytest.raises(UpstreamBroken, match="the sandbox ended"):
        await connection.response_head()
