"""Requests to sandboxes that do not run: who wakes them, who does not, and what becomes of the request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from h2.events import ResponseReceived
from uvicorn.server import ServerState

from atolld.control.testing import until
from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import AtollError, Capacity, DeadlineExceeded, FailedPrecondition, GuestUnreachable
from atolld.gateway.directory import ASLEEP
from atolld.gateway.h2 import Http2Protocol
from atolld.gateway.server import Limits
from atolld.gateway.upstream import UpstreamConnection

from .conftest import ID, KEY, TOKEN, Client, Edge, FakeEndpoint, answer
from .test_h2 import Client as Http2Client

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
E2B = f"e2b-sandbox-id: {ID}"
GONE = {"sandboxId": ID, "message": "The sandbox was not found", "code": 502}
VOID = "127.0.0.1:1"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def put(edge: Edge, **changes: Any) -> str:
    """Change what the directory says of the sandbox, its address being void unless given; returns the true one."""
    endpoint = edge.directory.endpoints[ID]
    true = endpoint.address
    edge.directory.endpoints[ID] = replace(endpoint, **{"address": VOID, **changes})
    return true


def asleep(edge: Edge, state: SandboxState = SandboxState.PAUSED, **changes: Any) -> None:
    """Put it to sleep; once woken it is where it really is."""
    true = put(edge, state=state, **changes)

    async def wake(id: str) -> FakeEndpoint | None:
        put(edge, address=true, state=SandboxState.RUNNING)
        return edge.directory.endpoints[id]

    edge.directory.on_wake = wake


async def get(edge: Edge, path: str, *headers: str, key: str = "", method: str = "GET") -> tuple[int, bytes]:
    client = await edge.client()
    client.request(method, path, *headers, key=key)
    status, _, body = await client.response()
    return status, body


@pytest.mark.parametrize("state", sorted(ASLEEP))
async def test_who_may_pass_wakes(edge: Edge, state: SandboxState) -> None:
    edge.sandbox.script = answer(OK)
    port = edge.sandbox.port
    for path, headers, key in (
        (edge.agent(), [], KEY),
        (edge.agent("/health"), [], KEY),
        (edge.port_path(port), [], KEY),
        ("/x", [E2B, f"x-access-token: {TOKEN}"], ""),
        ("/x", [f"x-access-token: {TOKEN}"], ""),
        ("/x", [E2B, f"e2b-sandbox-port: {port}"], ""),
    ):
        edge.directory.woken.clear()
        asleep(edge, state)
        edge.gateway.interrupting(ID)()
        assert await get(edge, path, *headers, key=key) == (200, b"ok"), path
        assert edge.directory.woken == [ID]


@pytest.mark.parametrize("state", sorted(ASLEEP))
async def test_who_may_not_pass_wakes_nobody(edge: Edge, state: SandboxState) -> None:
    asleep(edge, state, allow_public_traffic=False, traffic_token="let-me-in")
    for path, headers, key, status in (
        (edge.agent(), [], "e2b_" + "1" * 40, 401),
        (edge.agent(), [], "", 401),
        (edge.port_path(80), [], "", 401),
        ("/x", [E2B], "", 401),
        ("/x", [E2B, "x-access-token: wrong"], "", 401),
        ("/files?path=/a", [E2B], "", 401),
        ("/files?path=/a&signature=v1_no", [E2B], "", 401),
        ("/files?path=/a&signature=v1_no", [], "", 401),
        ("/x", ["x-access-token: wrong"], "", 502),
        ("/init", [E2B, f"x-access-token: {TOKEN}"], "", 404),
        ("/x", [E2B, "e2b-sandbox-port: 80"], "", 403),
        ("/x", [E2B, "e2b-sandbox-port: 80", "e2b-traffic-access-token: wrong"], "", 403),
        ("/health", [E2B], "", 204 if state is SandboxState.FROZEN else 502),
    ):
        assert (await get(edge, path, *headers, key=key))[0] == status, path
    assert edge.directory.woken == [] and edge.sandbox.connections == 0
    assert edge.gateway.activity.idle_since(ID) is None


async def test_a_sandbox_without_secrets_is_woken_by_anybody(edge: Edge) -> None:
    asleep(edge, secure=False)
    assert await get(edge, "/x", E2B) == (200, b"ok")


@pytest.mark.parametrize(
    ("state", "auto_resume", "status"),
    [
        (SandboxState.FROZEN, True, 200),
        (SandboxState.FROZEN, False, 200),
        (SandboxState.RESUMING, False, 200),
        (SandboxState.PAUSING, True, 502),
        (SandboxState.PAUSED, True, 502),
        (SandboxState.PAUSED, False, 502),
    ],
)
async def test_a_probe_never_resumes(edge: Edge, state: SandboxState, auto_resume: bool, status: int) -> None:
    asleep(edge, state, auto_resume=auto_resume)
    got, body = await get(edge, "/health", E2B, f"x-access-token: {TOKEN}")
    assert got == status
    assert edge.directory.woken == ([ID] if status == 200 else [])
    assert status == 200 or json.loads(body) == GONE


@pytest.mark.parametrize("state", [SandboxState.PAUSED, SandboxState.PAUSING])
async def test_what_its_policy_leaves_paused_stays_so(edge: Edge, state: SandboxState) -> None:
    async def wake(id: str) -> FakeEndpoint | None:
        put(edge, state=SandboxState.PAUSED)
        return None

    edge.directory.on_wake = wake
    for header in (f"x-access-token: {TOKEN}", "e2b-sandbox-port: 80"):
        put(edge, state=state, auto_resume=False)
        got, body = await get(edge, "/x", E2B, header)
        assert (got, json.loads(body)) == (502, GONE)
    put(edge, state=state, auto_resume=False)
    got, body = await get(edge, edge.agent(), key=KEY)
    error = json.loads(body)["error"]
    assert (got, error["code"], error["details"]["state"]) == (409, "failed_precondition", "paused")
    assert "`resume`" in error["message"] and "`connect`" in error["message"]
    assert len(edge.directory.woken) == (0 if state is SandboxState.PAUSED else 3)


async def test_one_that_ends_instead_of_waking(edge: Edge) -> None:
    async def wake(id: str) -> FakeEndpoint | None:
        edge.directory.endpoints.pop(id, None)
        return None

    edge.directory.on_wake = wake
    sleeping = replace(edge.directory.endpoints[ID], state=SandboxState.PAUSING)
    edge.directory.endpoints[ID] = sleeping
    got, body = await get(edge, edge.agent(), key=KEY)
    assert (got, json.loads(body)["error"]["code"]) == (404, "not_found")
    edge.directory.endpoints[ID] = sleeping
    got, body = await get(edge, "/x", E2B, f"x-access-token: {TOKEN}")
    assert (got, json.loads(body)) == (502, GONE)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Capacity("no room for 512 MiB"), 503),
        (DeadlineExceeded("not up within 30 s"), 504),
        (FailedPrecondition("the save is of another engine"), 409),
        (GuestUnreachable("it did not come up"), 502),
    ],
)
async def test_what_keeps_it_from_coming_up_is_told_in_each_dialects_form(
    edge: Edge, error: AtollError, status: int
) -> None:
    async def wake(id: str) -> FakeEndpoint | None:
        raise error

    put(edge, state=SandboxState.PAUSED)
    edge.directory.on_wake = wake
    for path in (edge.agent(), edge.port_path(80)):
        client = await edge.client()
        client.request("POST", path, "content-length: 0")
        got, headers, body = await client.response()
        told = json.loads(body)["error"]
        assert (got, told["code"], told["message"]) == (status, error.code, error.message)
        assert ("retry-after" in headers) is isinstance(error, Capacity)
    client = await edge.client()
    client.request("POST", "/x", E2B, f"x-access-token: {TOKEN}", "content-length: 0", key="")
    got, headers, body = await client.response()
    assert (got, json.loads(body)) == (status, {"sandboxId": ID, "message": error.message, "code": status})
    assert ("retry-after" in headers) is isinstance(error, Capacity)
    assert edge.sandbox.connections == 0
    assert not edge.gateway.activity.busy(ID)


async def test_a_body_waits_with_its_request(edge: Edge) -> None:
    got: list[bytes] = []

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        got.append(await reader.readexactly(10))
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    asleep(edge)
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 10", body=b"01234")
    await until(lambda: edge.directory.woken == [ID])
    client.send(b"56789")
    assert (await client.response())[0] == 200 and got == [b"0123456789"]


async def test_an_upgrade_wakes(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(SWITCH)
        writer.write((await reader.readexactly(3)).upper())

    edge.sandbox.script = script
    asleep(edge)
    client = await edge.client()
    client.request("GET", edge.port_path(edge.sandbox.port), "connection: upgrade", "upgrade: x", body=b"abc")
    assert (await client.head())[0] == 101
    assert await client.reader.read() == b"ABC"
    assert edge.directory.woken == [ID]


async def test_a_port_of_the_sandboxs_loopback_is_woken_for_too(edge: Edge, free_port: int) -> None:
    edge.sandbox.script = answer(b"HTTP/1.1 200 OK\r\n\r\n", OK)
    asleep(edge)
    assert await get(edge, edge.port_path(free_port), key=KEY) == (200, b"ok")


@pytest.fixture
async def http2(edge: Edge) -> AsyncIterator[Http2Client]:
    config = uvicorn.Config(edge.entry, loop="none", lifespan="off", log_config=None, ws="none", interface="asgi3")  # type: ignore[arg-type]
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Http2Protocol(config, state, Limits()), "127.0.0.1", 0
    )
    client = Http2Client(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    yield client
    server.close()
    client.writer.close()
    if state.tasks:
        await asyncio.wait(set(state.tasks), timeout=5)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/v1/sandboxes/{ID}/agent/x", [("x-api-key", KEY)], b"200"),
        ("/x", [("e2b-sandbox-id", ID), ("x-access-token", TOKEN)], b"200"),
        ("/x", [("e2b-sandbox-id", ID), ("x-access-token", "wrong")], b"401"),
        (f"/v1/sandboxes/{ID}/agent/x", [("x-api-key", "e2b_" + "1" * 40)], b"401"),
    ],
)
async def test_streams_of_http2(
    edge: Edge, http2: Http2Client, path: str, headers: list[tuple[str, str]], status: bytes
) -> None:
    edge.sandbox.script = answer(OK)
    asleep(edge)
    stream = http2.ask("GET", path, *headers)
    assert (await http2.until(ResponseReceived, stream)).headers[0] == (b":status", status)
    assert edge.directory.woken == ([ID] if status == b"200" else [])
    await until(lambda: not edge.gateway.activity.busy(ID))


Away = Callable[[Edge], None]


def _saved(edge: Edge) -> None:
    """Saved without anybody's noticing: it runs all the time."""
    edge.gateway.interrupting(ID)()


def _frozen(edge: Edge) -> None:
    asleep(edge, SandboxState.FROZEN, address=edge.directory.endpoints[ID].address)
    edge.gateway.interrupting(ID)()


def _paused(edge: Edge) -> None:
    asleep(edge)
    edge.gateway.interrupting(ID)()


def _paused_and_gone(edge: Edge) -> None:
    asleep(edge)
    edge.gateway.sandbox_ended(ID)


@pytest.mark.parametrize("away", [_saved, _frozen, _paused, _paused_and_gone])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_was_in_flight_is_sent_again_if_that_does_no_harm(
    edge: Edge, away: Away, kept: bool, method: str
) -> None:
    arrived = asyncio.Event()

    async def first(reader: Reader, writer: Writer) -> None:
        if kept:
            await edge.sandbox.head(reader)
            writer.write(OK)
        await edge.sandbox.head(reader)
        arrived.set()
        await reader.read()

    edge.sandbox.script = first
    if kept:
        assert (await get(edge, edge.agent(), key=KEY))[0] == 200
    client = await edge.client()
    client.request(method, edge.agent(), *(["content-length: 0"] if method == "POST" else []))
    await arrived.wait()
    edge.sandbox.script = answer(OK)
    away(edge)
    status, _, body = await client.response()
    if method == "GET":
        assert (status, body) == (200, b"ok")
        assert len(edge.directory.woken) == (0 if away is _saved else 1)
    else:
        assert (status, json.loads(body)["error"]["code"]) == (502, "guest_unreachable")
        assert edge.directory.woken == []


@pytest.mark.parametrize("leaves", [False, True])
async def test_it_is_sent_again_once_only_and_not_for_nobody(edge: Edge, leaves: bool) -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        arrived.put_nowait(edge.sandbox.connections)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    assert await arrived.get() == 1
    if leaves:
        client.writer.transport.abort()
        await until(lambda: not edge.gateway.activity.busy(ID))
        return
    _saved(edge)
    assert await arrived.get() == 2
    _saved(edge)
    status, _, body = await client.response()
    assert (status, json.loads(body)["error"]["code"]) == (502, "guest_unreachable")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fails", [False, True])
async def test_one_that_falls_asleep_while_it_is_dialled_is_woken_for_every_method(
    edge: Edge, method: str, fails: bool
) -> None:
    dial: Callable[..., Awaitable[UpstreamConnection]] = edge.gateway.pool._dial
    times = 0

    async def slow(*arguments: Any) -> UpstreamConnection:
        nonlocal times
        times += 1
        connection = await dial(*arguments)
        if times == 1:
            asleep(edge)
            if fails:
                connection.abort()
                raise GuestUnreachable("no answer")
        return connection

    edge.gateway.pool._dial = slow
    edge.sandbox.script = answer(OK)
    headers = ["content-length: 0"] if method == "POST" else []
    assert await get(edge, edge.agent(), *headers, key=KEY, method=method) == (200, b"ok")
    assert edge.directory.woken == [ID] and times == 2


async def test_one_that_cannot_stay_awake(edge: Edge) -> None:
    dial: Callable[..., Awaitable[UpstreamConnection]] = edge.gateway.pool._dial

    async def slow(*arguments: Any) -> UpstreamConnection:
        connection = await dial(*arguments)
        edge.directory.endpoints[ID].state = SandboxState.FROZEN
        return connection

    edge.gateway.pool._dial = slow
    status, body = await get(edge, edge.agent(), key=KEY)
    assert (status, json.loads(body)["error"]["code"]) == (502, "guest_unreachable")
    assert edge.directory.woken == [ID] and edge.sandbox.heads == []
    await until(lambda: edge.gateway.pool.connections() == 0)


async def test_many_at_once(edge: Edge) -> None:
    asleep(edge)
    clients: list[Client] = [await edge.client() for _ in range(20)]
    for client in clients:
        client.request("GET", edge.agent())
    for client in clients:
        assert (await client.response())[0] == 200
    await until(lambda: not edge.gateway.activity.busy(ID))
