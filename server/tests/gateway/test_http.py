"""The proxy against sandboxes and clients that behave, and against those that do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from atolld.core.lifecycle import SandboxState
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.gateway.upstream import UpstreamConnection

from .conftest import ID, KEY, TOKEN, Edge, FakeEndpoint, answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


def code_of(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


async def test_a_call_reaches_the_agent_with_its_token(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 201 Created\r\ncontent-type: a/b\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent("/files?path=%2Fa"))
    status, headers, body = await client.response()
    assert (status, body) == (201, b"hello")
    assert headers["content-type"] == "a/b" and headers["x-request-id"].startswith("req_")
    head = edge.sandbox.heads[0]
    assert head.startswith(b"GET /files?path=%2Fa HTTP/1.1\r\n")
    assert f"x-access-token: {TOKEN}".encode() in head
    assert KEY.encode() not in head


async def test_connections_to_the_agent_are_used_again(edge: Edge) -> None:
    edge.sandbox.script = answer(OK, OK, OK)
    client = await edge.client()
    for _ in range(3):
        client.request("GET", edge.agent())
        assert (await client.response())[0] == 200
    assert edge.sandbox.connections == 1


async def test_the_first_request_finds_a_connection(edge: Edge) -> None:
    connected, keep = asyncio.Event(), edge.gateway.pool.keep_for_first

    def kept(id: SandboxId, connection: UpstreamConnection) -> None:
        keep(id, connection)
        connected.set()

    edge.gateway.pool.keep_for_first = kept  # type: ignore[method-assign]
    edge.sandbox.script = answer(OK, OK)
    edge.gateway.sandbox_up(ID)
    await asyncio.wait_for(connected.wait(), 5)
    client = await edge.client()
    for _ in range(2):
        client.request("POST", edge.agent(), "content-length: 0")
        assert (await client.response())[0] == 200
    assert edge.sandbox.connections == 1


@pytest.mark.parametrize("then", [None, SandboxState.FROZEN])
async def test_what_was_connected_to_beforehand_is_let_go_when_it_runs_no_more(
    edge: Edge, then: SandboxState | None
) -> None:
    endpoint = edge.directory.endpoints[ID]
    dialed, go = asyncio.Event(), asyncio.Event()
    to_agent = edge.gateway.pool.to_agent

    async def slowly(id: SandboxId, there: Any) -> UpstreamConnection:
        connection = await to_agent(id, there)
        dialed.set()
        await go.wait()
        return connection

    edge.gateway.pool.to_agent = slowly  # type: ignore[method-assign, assignment]
    edge.gateway.sandbox_up(ID)
    await dialed.wait()
    if then is None:
        del edge.directory.endpoints[ID]
    else:
        edge.directory.endpoints[ID] = replace(endpoint, state=then)
    go.set()
    await asyncio.wait_for(edge.sandbox.closed.wait(), 5)
    assert edge.gateway.pool.idle(ID, None) is None


async def test_what_does_not_answer_is_not_connected_to_beforehand(edge: Edge) -> None:
    await edge.sandbox.stop()
    edge.gateway.sandbox_up(ID)
    edge.gateway.sandbox_up(SandboxId("i9999999999999999999"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert edge.gateway.pool.connections() == 0


async def test_a_connection_the_agent_closes_is_not_used_again(edge: Edge) -> None:
    edge.sandbox.script = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    client = await edge.client()
    for _ in range(2):
        client.request("GET", edge.agent())
        assert (await client.response())[0] == 200
    assert edge.sandbox.connections == 2


@pytest.mark.parametrize("method, second", [("GET", 200), ("POST", 502)])
async def test_only_what_may_be_repeated_is_sent_again_when_a_kept_connection_was_dead(
    edge: Edge, method: str, second: int
) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(OK)
        await edge.sandbox.head(reader)
        # It took the request and died: nobody knows what it did with it.

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent("/first"))
    assert (await client.response())[0] == 200
    client.request(method, edge.agent("/second"), "content-length: 0")
    assert (await client.response())[0] == second
    assert [head.split(b" ")[1] for head in edge.sandbox.heads] == [b"/first", b"/second", b"/second"][
        : 3 if second == 200 else 2
    ]


async def test_bodies_go_up_as_they_were_framed(edge: Edge) -> None:
    got: list[bytes] = []

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        got.append(await reader.readexactly(10))
        writer.write(OK)
        await edge.sandbox.head(reader)
        got.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 10", body=b"01234")
    client.send(b"56789")
    assert (await client.response())[0] == 200
    client.request("POST", edge.agent(), "transfer-encoding: chunked", body=b"3\r\nabc\r\n")
    client.send(b"2\r\nde\r\n0\r\nx-trailer: dropped\r\n\r\n")
    assert (await client.response())[0] == 200
    assert got[0] == b"0123456789"
    assert got[1].endswith(b"0\r\n\r\n") and b"abc" in got[1] and b"de" in got[1] and b"x-trailer" not in got[1]
    assert b"content-length: 10" in edge.sandbox.heads[0]
    assert b"transfer-encoding: chunked" in edge.sandbox.heads[1]


async def test_a_connection_whose_request_was_not_sent_whole_is_not_used_again(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    first, second = await edge.client(), await edge.client()
    first.request("POST", edge.agent("/early"), "transfer-encoding: chunked", body=b"3\r\nabc\r\n")
    assert (await first.response())[0] == 200
    second.request("GET", edge.agent("/next"))
    assert (await second.response())[0] == 200
    assert edge.sandbox.connections == 2


async def test_an_answer_is_streamed_as_it_comes(edge: Edge) -> None:
    more = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none \r\n")
        await more.wait()
        writer.write(b"3\r\ntwo\r\n0\r\nx-trailer: dropped\r\n\r\n")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    status, headers = await client.head()
    assert status == 200 and headers["transfer-encoding"] == "chunked"
    assert await client.reader.readuntil(b"one \r\n") == b"4\r\none \r\n"
    more.set()
    assert await client.chunks() == b"two"


async def test_both_directions_at_once(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            line = (await reader.readuntil(b"\r\n")).strip()
            data = (await reader.readexactly(int(line, 16) + 2))[:-2]
            writer.write(b"%x\r\n%b\r\n" % (len(data), data.upper()))
        writer.write(b"0\r\n\r\n")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), "transfer-encoding: chunked")
    assert (await client.head())[0] == 200
    for word in (b"ping", b"pong", b"last"):
        client.send(b"4\r\n" + word + b"\r\n")
        assert await client.reader.readexactly(9) == b"4\r\n" + word.upper() + b"\r\n"
    client.send(b"0\r\n\r\n")
    assert await client.chunks() == b""


@pytest.mark.parametrize(
    "method, response, status",
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\netag: x\r\n\r\n", 304),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, 200),
    ],
)
async def test_answers_without_a_body_of_their_own(edge: Edge, method: str, response: bytes, status: int) -> None:
    edge.sandbox.script = answer(response, OK)
    client = await edge.client()
    client.request(method, edge.agent())
    got, headers = await client.head()
    assert got == status
    if method == "HEAD":
        assert headers["content-length"] == "1000"
    elif status == 200:
        assert await client.reader.readexactly(2) == b"ok"
    edge.sandbox.script = answer(OK)
    client.request("GET", edge.agent())
    assert (await client.response())[2] == b"ok"


async def test_a_body_that_only_the_end_of_the_connection_ends(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.response())[2] == b"until the end"


async def test_expect_100_is_answered_only_once_the_sandbox_is_reached(edge: Edge) -> None:
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 5", "expect: 100-continue", key="wrong")
    assert (await client.head())[0] == 401
    client = await edge.client()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        assert await reader.readexactly(5) == b"hello"
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    client.request("POST", edge.agent(), "content-length: 5", "expect: 100-continue")
    assert (await client.head())[0] == 100
    client.send(b"hello")
    assert (await client.response())[2] == b"ok"
    assert b"expect" not in edge.sandbox.heads[0]


async def test_a_client_that_goes_away_ends_the_sandboxs_side(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        assert await reader.read() == b""

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    await client.head()
    client.writer.close()
    await asyncio.wait_for(edge.sandbox.closed.wait(), 5)


async def test_a_client_that_goes_away_in_an_upload_ends_the_sandboxs_side(edge: Edge) -> None:
    seen = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        await reader.readexactly(3)
        seen.set()
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 100", body=b"abc")
    await seen.wait()
    client.writer.close()
    await asyncio.wait_for(edge.sandbox.closed.wait(), 5)


async def test_a_sandbox_that_ends_cuts_its_streams_visibly(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.head())[0] == 200
    assert await client.reader.readexactly(8) == b"3\r\nabc\r\n"
    edge.gateway.sandbox_ended(ID)
    assert await client.reader.read() == b""
    assert edge.gateway.pool.connections() == 0


async def test_a_sandbox_that_ends_before_it_answered_is_a_502(edge: Edge) -> None:
    arrived = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        arrived.set()
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 0")
    await arrived.wait()
    edge.gateway.sandbox_ended(ID)
    status, _, body = await client.response()
    assert (status, code_of(body)) == (502, "guest_unreachable")
    assert b"ended" in body


@pytest.mark.parametrize(
    "response",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"x" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"",
    ],
)
async def test_a_sandbox_that_breaks_http_is_a_502_and_hurts_nobody(edge: Edge, response: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(response)

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    status, _, body = await client.response()
    assert (status, code_of(body)) == (502, "guest_unreachable")
    edge.sandbox.script = answer(OK)
    client.request("GET", edge.agent())
    assert (await client.response())[2] == b"ok"


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\nabc\r\n",
        b"3\r\nabcd",
        b"3;" + b"x" * 200_000,
        b"0\r\n" + b"x: y\r\n" * 50_000,
    ],
)
async def test_bad_chunks_cut_the_answer_short(edge: Edge, rest: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await writer.drain()
        writer.write(rest)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.head())[0] == 200
    with pytest.raises(asyncio.IncompleteReadError):
        await client.chunks()


async def test_an_answer_shorter_than_its_length_is_cut_short(edge: Edge) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.head())[1]["content-length"] == "10"
    assert await client.reader.read() == b"abc"


async def test_bytes_after_an_answer_do_not_become_the_next_answer(edge: Edge) -> None:
    edge.sandbox.script = answer(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", OK)
    client = await edge.client()
    client.request("GET", edge.agent())
    assert (await client.response())[2] == b"ok"
    client.request("GET", edge.agent())
    assert (await client.response())[2] == b"ok"
    assert edge.sandbox.connections == 2


Change = Callable[[Edge], None]


def _nothing(_edge: Edge) -> None:
    return


def _elsewhere(edge: Edge) -> None:
    edge.directory.endpoints[ID] = FakeEndpoint("127.0.0.1:1", project_id=ProjectId("theirs"))


def _gone(edge: Edge) -> None:
    edge.directory.endpoints.clear()


def _moved(edge: Edge) -> None:
    edge.directory.endpoints[ID] = FakeEndpoint("127.0.0.1:1")


def _stopping(edge: Edge) -> None:
    edge.directory.endpoints[ID].state = SandboxState.STOPPING


@pytest.mark.parametrize(
    "change, key, status, code",
    [
        (_nothing, "", 401, "unauthenticated"),
        (_nothing, "e2b_" + "1" * 40, 401, "unauthenticated"),
        (_elsewhere, KEY, 404, "not_found"),
        (_gone, KEY, 404, "not_found"),
        (_stopping, KEY, 409, "failed_precondition"),
    ],
)
async def test_who_may_not_pass(edge: Edge, change: Change, key: str, status: int, code: str) -> None:
    change(edge)
    for path in (edge.agent(), edge.port_path(8000)):
        client = await edge.client()
        client.request("GET", path, key=key)
        got, headers, body = await client.response()
        assert (got, code_of(body)) == (status, code)
        assert json.loads(body)["error"]["request_id"] == headers["x-request-id"]
    assert edge.sandbox.connections == 0


@pytest.mark.parametrize(("change", "status", "code"), [(_gone, 404, "not_found"), (_moved, 502, "guest_unreachable")])
async def test_a_sandbox_that_leaves_its_address_while_it_is_dialled_gets_nothing_there(
    edge: Edge, change: Change, status: int, code: str
) -> None:
    """Its address may be another sandbox's by then."""
    dial = edge.gateway.pool._dial

    async def slow(*arguments: Any) -> UpstreamConnection:
        connection = await dial(*arguments)
        change(edge)
        return connection

    edge.gateway.pool._dial = slow
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 6", body=b"secret")
    got, _, body = await client.response()
    assert (got, code_of(body)) == (status, code)
    await asyncio.wait_for(edge.sandbox.closed.wait(), 5)
    assert edge.sandbox.heads == []


async def test_the_api_gets_everything_else(edge: Edge) -> None:
    client = await edge.client()
    client.request("POST", f"/v1/sandboxes/{ID}/timeout", "content-length: 3", body=b"abc")
    assert (await client.response())[2] == b"api:abc"


async def test_a_ports_connection_serves_again_what_may_be_sent_twice(edge: Edge) -> None:
    edge.directory.endpoints[ID].address = "127.0.0.1:1"
    edge.sandbox.script = answer(OK, OK, OK)
    client = await edge.client()
    for method, connections in (("GET", 1), ("GET", 1), ("POST", 2), ("GET", 2)):
        client.request(method, edge.port_path(edge.sandbox.port), *(["content-length: 0"] if method == "POST" else []))
        assert (await client.response())[0] == 200
        assert edge.sandbox.connections == connections


async def test_a_program_that_closes_a_kept_connection_costs_nothing(edge: Edge) -> None:
    edge.directory.endpoints[ID].address = "127.0.0.1:1"

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(OK)
        # It says that it keeps the connection, and takes no further request on it.
        await edge.sandbox.head(reader)

    edge.sandbox.script = script
    client = await edge.client()
    for _ in range(3):
        client.request("GET", edge.port_path(edge.sandbox.port))
        assert (await client.response())[0] == 200


async def test_a_port_is_dialled_directly(edge: Edge) -> None:
    # The agent is elsewhere: the program must not be looked for there.
    port = edge.sandbox.port
    edge.directory.endpoints[ID].address = "127.0.0.1:1"

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: /login\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.port_path(port, "/app?q=1"), "authorization: token mine")
    status, headers, _ = await client.response()
    assert (status, headers["location"]) == (302, edge.port_path(port, "/login"))
    assert "set-cookie" not in headers and "sandbox" in headers["content-security-policy"]
    head = edge.sandbox.heads[0]
    assert head.startswith(b"GET /app?q=1 HTTP/1.1\r\n") and f"host: localhost:{port}".encode() in head
    assert b"authorization: token mine" in head and TOKEN.encode() not in head


@pytest.mark.parametrize(
    "told, status, code",
    [
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", 502, "port_not_open"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", 502, "guest_unreachable"),
        (b"garbage\r\n\r\n", 502, "guest_unreachable"),
        (b"x" * 100_000, 502, "guest_unreachable"),
        (b"", 502, "guest_unreachable"),
    ],
)
async def test_a_port_that_is_not_open(edge: Edge, free_port: int, told: bytes, status: int, code: str) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        head = await edge.sandbox.head(reader)
        assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % free_port)
        assert f"X-Access-Token: {TOKEN}".encode() in head
        writer.write(told)

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.port_path(free_port))
    got, _, body = await client.response()
    assert (got, code_of(body)) == (status, code)


async def test_a_port_of_the_sandboxs_loopback_is_reached_through_the_agent(edge: Edge, free_port: int) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await edge.sandbox.head(reader)
        assert await reader.readexactly(4) == b"body"
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.port_path(free_port, "/deep"), "content-length: 4", body=b"body")
    assert (await client.response())[2] == b"ok"
    assert edge.sandbox.heads[1].startswith(b"POST /deep HTTP/1.1\r\n")
    assert TOKEN.encode() not in edge.sandbox.heads[1]


async def test_an_agent_that_does_not_listen(edge: Edge, free_port: int) -> None:
    edge.directory.endpoints[ID].address = f"127.0.0.1:{free_port}"
    client = await edge.client()
    client.request("GET", edge.agent())
    status, _, body = await client.response()
    assert (status, code_of(body)) == (502, "guest_unreachable")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_does_not_read_stops_the_sandbox(edge: Edge, chunked: bool) -> None:
    """Nothing piles up here: the sandbox can write no more than the sockets and one buffer each way hold."""
    written = 0
    piece = b"x" * 65536
    stalled = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal written
        await edge.sandbox.head(reader)
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % (10**11)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stalled.set()
                return
            written += len(piece)

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", edge.agent())
    await client.head()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.wait_for(stalled.wait(), 20)
    assert written < 40 * 1024 * 1024


async def test_a_sandbox_that_does_not_read_stops_the_client(edge: Edge) -> None:
    done = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await edge.sandbox.head(reader)
        await done.wait()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("POST", edge.agent(), f"content-length: {10**11}")
    sent = 0
    try:
        while sent < 200 * 1024 * 1024:
            client.send(b"x" * 65536)
            await asyncio.wait_for(client.writer.drain(), 0.5)
            sent += 65536
    except TimeoutError:
        pass
    done.set()
    assert sent < 40 * 1024 * 1024
