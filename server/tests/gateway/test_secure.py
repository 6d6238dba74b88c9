"""What the protocol of HTTP/1.1 and a change of protocol do over TLS, whose connections cannot end in one direction."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from atolld.api.dialects import Dialect, Message, Receive, Scope, Send
from atolld.api.entry import Entry
from atolld.api.errors import render
from atolld.daemon.certificates import ensure
from atolld.gateway.http import Gateway
from atolld.gateway.route import is_data_plane
from atolld.gateway.secure import ALPN, SecureProtocol
from atolld.gateway.server import Limits, edge_protocol

from .conftest import ID, FakeDirectory, FakeEndpoint, FakeKeys, Sandbox

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Run = Callable[[Coroutine[Any, Any, None]], None]
Connect = Callable[..., Coroutine[Any, Any, tuple[Reader, Writer]]]
NAME = f"{{port}}-{ID}.sandbox.test"


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on one of the loops: their TLS is not the same code."""
    return request.param  # type: ignore[no-any-return]


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Sandbox, Connect]]:
    """A sandbox, and what connects to the gateway before it: `connect(alpn)`."""
    files = ensure(folder, "sandbox.test")
    sandbox = Sandbox()
    await sandbox.start()
    directory = FakeDirectory()
    directory.endpoints[ID] = FakeEndpoint("127.0.0.1:1")
    gateway = Gateway(directory, FakeKeys(), render)

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"type": "http.response.start", "status": 204, "headers": []}
        await send(message)
        await send({"type": "http.response.body", "body": b""})

    entry = Entry(lambda path: Dialect(api), gateway.serve, is_data_plane, lambda route, status, seconds: None)
    config = uvicorn.Config(entry, loop="none", lifespan="off", log_config=None, ws="none", interface="asgi3")
    config.load()
    state = ServerState()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    context.set_alpn_protocols(list(ALPN))
    edge = edge_protocol(render, Limits(head_bytes=4096, linger_s=0.2))
    server = await asyncio.get_running_loop().create_server(
        lambda: SecureProtocol(config, state, edge), "127.0.0.1", 0, ssl=context
    )
    trusted = ssl.create_default_context(cafile=str(files.authority))
    writers: list[Writer] = []

    async def connect(*alpn: str) -> tuple[Reader, Writer]:
        trusted.set_alpn_protocols(list(alpn))
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=trusted, server_hostname="api.sandbox.test")
        writers.append(writer)
        return reader, writer

    try:
        yield sandbox, connect
    finally:
        for writer in writers:
            writer.transport.abort()
        gateway.close()
        server.close()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=5)
        await sandbox.stop()


@pytest.mark.parametrize("offered, agreed", [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)])
def test_what_is_agreed_on_is_spoken(run: Run, tmp_path: Path, offered: list[str], agreed: str | None) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, connect):
            reader, writer = await connect(*offered)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
            if agreed == "h2":
                # Its settings come first.
                assert (await reader.readexactly(9))[3] == 4
                return
            writer.write(b"GET /x HTTP/1.1\r\nhost: api.sandbox.test\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")

    run(main())


def test_a_changed_protocol(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (sandbox, connect):

            async def program(reader: Reader, writer: Writer) -> None:
                await sandbox.head(reader)
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
                writer.write((await reader.readexactly(200_000)).upper())
                writer.write(b"the end")

            sandbox.script = program
            reader, writer = await connect("http/1.1")
            host = NAME.format(port=sandbox.port)
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"x" * 200_000)
            # All of it arrives although the program ends at once after its last byte.
            assert await reader.read(-1) == b"X" * 200_000 + b"the end"
            assert b"x-forwarded-proto: https" in sandbox.heads[0]

    run(main())


def test_a_client_that_goes_away_ends_a_changed_protocol(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (sandbox, connect):

            async def program(reader: Reader, writer: Writer) -> None:
                await sandbox.head(reader)
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
                assert await reader.read() == b""

            sandbox.script = program
            reader, writer = await connect("http/1.1")
            host = NAME.format(port=sandbox.port)
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            async with asyncio.timeout(5):
                await sandbox.closed.wait()

    run(main())


def test_headers_that_are_too_long(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, connect):
            reader, writer = await connect("http/1.1")
            writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")

    run(main())
