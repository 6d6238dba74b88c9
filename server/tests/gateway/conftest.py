"""A whole edge on loopback: a client's raw bytes, the gateway in front of it, a scripted sandbox behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
import uvicorn

from atolld.api.dialects import Dialect, Message, Receive, Scope, Send
from atolld.api.entry import Entry
from atolld.api.errors import render
from atolld.core.lifecycle import SandboxState
from atolld.core.project import Principal
from atolld.foundation.errors import Unauthenticated
from atolld.foundation.ids import KeyId, ProjectId, SandboxId
from atolld.gateway.http import Gateway
from atolld.gateway.route import is_data_plane
from atolld.gateway.server import Limits, edge_protocol

ID = SandboxId("i0000000000000000000")
KEY = "e2b_" + "0" * 40
TOKEN = "agent-token"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FakeEndpoint:
    address: str
    agent_token: str = TOKEN
    project_id: ProjectId = ProjectId("mine")
    state: SandboxState = SandboxState.RUNNING
    secure: bool = True
    auto_resume: bool = True
    allow_public_traffic: bool = True
    traffic_token: str | None = None
    mask_request_host: str | None = None


class FakeDirectory:
    """`woken` is who was asked to be woken; `on_wake` does it: by default the sandbox runs then, where it was."""

    def __init__(self) -> None:
        self.endpoints: dict[str, FakeEndpoint] = {}
        self.woken: list[str] = []
        self.on_wake: Callable[[str], Awaitable[FakeEndpoint | None]] = self.runs

    async def runs(self, id: str) -> FakeEndpoint | None:
        endpoint = self.endpoints.get(id)
        if endpoint is not None:
            self.endpoints[id] = endpoint = replace(endpoint, state=SandboxState.RUNNING)
        return endpoint

    async def wake(self, sandbox_id: SandboxId, /) -> FakeEndpoint | None:
        self.woken.append(sandbox_id)
        await asyncio.sleep(0)
        return await self.on_wake(sandbox_id)

    def by_token(self, agent_token: str, /) -> SandboxId | None:
        return next((SandboxId(id) for id, one in self.endpoints.items() if one.agent_token == agent_token), None)

    def agent_tokens(self) -> list[tuple[SandboxId, str]]:
        return [(SandboxId(id), one.agent_token) for id, one in self.endpoints.items()]

    def endpoint(self, sandbox_id: SandboxId, /) -> FakeEndpoint | None:
        return self.endpoints.get(sandbox_id)


class FakeKeys:
    async def authenticate(self, secret: str, /) -> Principal:
        if secret != KEY:
            raise Unauthenticated("no such key")
        return Principal(ProjectId("mine"), KeyId("k"))


class Sandbox:
    """A listening socket that plays a script for each connection; `heads` are the request heads it saw."""

    def __init__(self) -> None:
        self.script: Script = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        self.connections = 0
        self.heads: list[bytes] = []
        self.closed = asyncio.Event()
        self.errors: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()
            self.closed.set()

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head


def answer(*responses: bytes) -> Script:
    """A script that reads one request without a body for each of `responses`, and then waits for the end."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
        await reader.read()

    return script


class Client:
    """A client that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, path: str, *headers: str, body: bytes = b"", key: str = KEY) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: api.test", *([f"x-api-key: {key}"] if key else []), *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next answer."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def chunks(self) -> bytes:
        """The whole of a chunked body. Raises IncompleteReadError when its end is missing."""
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return body

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next whole answer."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self.chunks()
        return status, headers, await self.reader.readexactly(int(headers.get("content-length", 0)))


@dataclass
class Edge:
    """Everything together; `entry` is the ASGI application.

    `agent(path)` and `port_path(port, path)` are public paths of the sandbox.
    """

    gateway: Gateway
    directory: FakeDirectory
    sandbox: Sandbox
    address: tuple[str, int]
    clients: list[Client] = field(default_factory=list)
    api: list[Scope] = field(default_factory=list)
    entry: Entry | None = None

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address, limit=2**20)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    def agent(self, path: str = "/x") -> str:
        return f"/v1/sandboxes/{ID}/agent{path}"

    def port_path(self, port: int, path: str = "/x") -> str:
        return f"/v1/sandboxes/{ID}/ports/{port}{path}"


EdgeFactory = Callable[..., Awaitable[Edge]]


@pytest.fixture
async def make_edge() -> AsyncIterator[EdgeFactory]:
    """Makes an edge; `limits` are the client side's."""
    stops: list[Callable[[], Awaitable[None]]] = []

    async def make(limits: Limits | None = None) -> Edge:
        sandbox = Sandbox()
        await sandbox.start()
        directory = FakeDirectory()
        directory.endpoints[ID] = FakeEndpoint(f"127.0.0.1:{sandbox.port}")
        gateway = Gateway(directory, FakeKeys(), render)
        edge = Edge(gateway, directory, sandbox, ("", 0))

        async def api(scope: Scope, receive: Receive, send: Send) -> None:
            edge.api.append(scope)
            message: Message = await receive()
            body = b"api:" + message["body"]
            start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            await send(start)
            await send({"type": "http.response.body", "body": body})

        entry = Entry(lambda path: Dialect(api), gateway.serve, is_data_plane, lambda route, status, seconds: None)
        edge.entry = entry
        config = uvicorn.Config(
            entry,
            http=edge_protocol(render, limits),
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
        )
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        edge.address = listener.getsockname()

        async def stop() -> None:
            for client in edge.clients:
                client.writer.close()
            gateway.close()
            for one in server.servers:
                one.close()
            tasks = set(server.server_state.tasks)
            if tasks:
                await asyncio.wait(tasks, timeout=5)
            for connection in list(server.server_state.connections):
                connection.transport.close()
            await sandbox.stop()
            assert sandbox.errors == []

        stops.append(stop)
        return edge

    yield make
    for stop in stops:
        await stop()


@pytest.fixture
async def edge(make_edge: EdgeFactory) -> Edge:
    """An edge with the usual limits."""
    return await make_edge()


@pytest.fixture
def free_port() -> int:
    """A port of loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
