"""HTTP/2 as a client's own implementation of it sees the daemon, with clients that misuse it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest
import uvicorn
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from uvicorn.server import ServerState

from atolld.gateway import h2 as module
from atolld.gateway.h2 import STREAM_WINDOW, Http2Protocol
from atolld.gateway.server import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Client:
    """One connection; `events` are those that were not waited for yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.reader, self.writer = reader, writer
        self.events: list[Event] = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(self, method: str = "GET", path: str = "/", *headers: tuple[str, str], end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "api.test"), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.flush()
        return stream

    async def until(self, kind: type[Event], stream: int | None = None) -> Any:
        """The next event of `kind`, of `stream`; those before it of that stream are dropped."""
        while True:
            for event in list(self.events):
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            data = await self.reader.read(65536)
            assert data, f"the connection ended before {kind.__name__}"
            self.events += self.h2.receive_data(data)
            self.flush()

    async def body(self, stream: int) -> bytes:
        got = b""
        while True:
            event = await self.until(Event, stream)
            if isinstance(event, DataReceived):
                got += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                self.flush()
            elif isinstance(event, StreamEnded):
                return got


class Daemon:
    """A listener that speaks HTTP/2 without TLS."""

    def __init__(self) -> None:
        self.app: App = echo
        self.state = ServerState()
        self.scopes: list[Scope] = []

    async def call(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await self.app(scope, receive, send)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b" echo ")]})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b"").upper(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[Client]:
    config = uvicorn.Config(daemon.call, loop="none", lifespan="off", log_config=None, ws="none", interface="asgi3")
    config.load()
    limits = Limits(max_connections=2)
    server = await asyncio.get_running_loop().create_server(
        lambda: Http2Protocol(config, daemon.state, limits), "127.0.0.1", 0
    )
    made = Client(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    yield made
    server.close()
    made.writer.close()
    with contextlib.suppress(ConnectionError):
        await made.writer.wait_closed()
    if daemon.state.tasks:
        await asyncio.wait(set(daemon.state.tasks), timeout=5)
    assert not daemon.state.tasks


async def test_requests_at_once(daemon: Daemon, client: Client) -> None:
    first = client.ask("POST", "/a%20b?q=1", ("cookie", "a=1"), ("cookie", "b=2"), end=False)
    second = client.ask("GET", "/second")
    assert (await client.until(ResponseReceived, second)).headers[0] == (b":status", b"200")
    assert await client.body(second) == b""
    client.h2.send_data(first, b"hello ")
    client.flush()
    assert (b"x-kind", b"echo") in (await client.until(ResponseReceived, first)).headers
    assert (await client.until(DataReceived, first)).data == b"HELLO "
    client.h2.send_data(first, b"you", end_stream=True)
    client.flush()
    assert await client.body(first) == b"YOU"
    scope = daemon.scopes[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"q=1")
    assert scope["headers"] == [(b"host", b"api.test"), (b"cookie", b"a=1; b=2"), (b"transfer-encoding", b"chunked")]
    assert (b"transfer-encoding", b"chunked") not in daemon.scopes[1]["headers"]


async def test_an_answer_larger_than_the_clients_window(daemon: Daemon, client: Client) -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(1_000_000)})

    daemon.app = large
    assert len(await client.body(client.ask())) == 1_000_000


async def test_a_body_that_nobody_takes_stops_its_client_and_no_other(daemon: Daemon, client: Client) -> None:
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await echo(scope, receive, send)

    daemon.app = slow
    slow_one = client.ask("POST", "/slow", end=False)
    await client.body(client.ask("GET", "/other"))
    sent = 0
    while room := min(client.h2.local_flow_control_window(slow_one), client.h2.max_outbound_frame_size):
        client.h2.send_data(slow_one, bytes(room))
        sent += room
    client.flush()
    assert sent == STREAM_WINDOW
    quick = client.ask("POST", "/quick", end=False)
    client.h2.send_data(quick, b"abc", end_stream=True)
    client.flush()
    assert await client.body(quick) == b"ABC"
    go_on.set()
    client.h2.end_stream(slow_one)
    client.flush()
    assert len(await client.body(slow_one)) == sent


async def test_a_client_that_gives_up_ends_the_call(daemon: Daemon, client: Client) -> None:
    told = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    daemon.app = wait
    stream = client.ask()
    await client.until(ResponseReceived, stream)
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.flush()
    async with asyncio.timeout(5):
        await told.wait()


@pytest.mark.parametrize("how", ["raise", "cut", "stop"])
async def test_an_answer_that_is_cut_short_looks_so(daemon: Daemon, client: Client, how: str) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if how == "raise":
            raise RuntimeError("on purpose")
        if how == "cut":
            scope["extensions"]["atoll.wire"].cut()

    daemon.app = broken
    stream = client.ask()
    assert (await client.until(DataReceived, stream)).data == b"half"
    assert (await client.until(StreamReset, stream)).error_code == ErrorCodes.INTERNAL_ERROR
    daemon.app = echo
    assert await client.body(client.ask()) == b""


async def test_a_header_that_http2_does_not_allow_hurts_its_own_request_only(daemon: Daemon, client: Client) -> None:
    async def bad(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Upper", b"x"), (b"connection", b"x")]})
        await send({"type": "http.response.body", "body": b""})

    daemon.app = bad
    stream = client.ask()
    event = await client.until(Event, stream)
    assert isinstance(event, StreamReset | ResponseReceived)
    daemon.app = echo
    assert await client.body(client.ask()) == b""


@pytest.mark.parametrize("path", ["relative", "/with space", "/\x7f", "/\xff"])
async def test_a_path_that_cannot_be(daemon: Daemon, client: Client, path: str) -> None:
    stream = client.ask("GET", path)
    assert (await client.until(StreamReset, stream)).error_code == ErrorCodes.PROTOCOL_ERROR
    assert daemon.scopes == []


@pytest.mark.parametrize("data", [b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + bytes(4), b"\xff" * 300_000])
async def test_bytes_that_are_not_http2(daemon: Daemon, client: Client, data: bytes) -> None:
    client.writer.write(data)
    with contextlib.suppress(ConnectionError):
        while await client.reader.read(65536):
            pass
    assert daemon.scopes == []


async def test_a_client_that_begins_and_gives_up_without_end(
    daemon: Daemon, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RESETS", 20)
    with contextlib.suppress(ConnectionError):
        for _ in range(30):
            client.h2.reset_stream(client.ask("POST", "/", end=False), ErrorCodes.CANCEL)
            client.flush()
    assert (await client.until(ConnectionTerminated)).error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert len(daemon.scopes) <= 21


async def test_a_stopping_daemon_finishes_what_it_has(daemon: Daemon, client: Client) -> None:
    stream = client.ask("POST", "/", end=False)
    await client.until(ResponseReceived, stream)
    for connection in list(daemon.state.connections):
        connection.shutdown()
    late = client.ask()
    assert (await client.until(StreamReset, late)).error_code == ErrorCodes.REFUSED_STREAM
    client.h2.send_data(stream, b"end", end_stream=True)
    client.flush()
    assert await client.body(stream) == b"END"
    assert (await client.until(ConnectionTerminated)).error_code == ErrorCodes.NO_ERROR


async def test_a_lost_connection_ends_its_calls(daemon: Daemon, client: Client) -> None:
    stream = client.ask("POST", "/", end=False)
    await client.until(ResponseReceived, stream)
    client.writer.transport.abort()
    async with asyncio.timeout(5):
        await asyncio.wait(set(daemon.state.tasks))
    assert not daemon.state.connections
