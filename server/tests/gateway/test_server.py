"""The client's side against clients that misbehave."""

from __future__ import annotations

import asyncio
import json

import pytest

from atolld.gateway.server import Limits

from .conftest import Client, Edge, EdgeFactory, answer


async def refusal(client: Client) -> tuple[int, str]:
    status, headers, body = await client.response()
    error = json.loads(body)["error"]
    assert error["request_id"] == headers["x-request-id"] and headers["connection"] == "close"
    assert await client.reader.read() == b""
    return status, error["code"]


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"CONNECT example.com:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_broken_http_is_told_in_the_apis_form(edge: Edge, data: bytes) -> None:
    client = await edge.client()
    client.send(data)
    assert await refusal(client) == (400, "invalid_argument")
    assert edge.api == []


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000],
        [b"GET /" + b"y" * 100_000],
        [b"GET / HTTP/1.1\r\n"] + [b"x: y\r\n" * 100] * 200,
    ],
)
async def test_heads_are_bounded_in_size(edge: Edge, pieces: list[bytes]) -> None:
    client = await edge.client()
    for piece in pieces:
        client.send(piece)
    assert await refusal(client) == (431, "invalid_argument")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_heads_are_bounded_in_time(make_edge: EdgeFactory, sent: bytes) -> None:
    edge = await make_edge(Limits(head_timeout_s=0.05))
    client = await edge.client()
    client.send(sent)
    assert await refusal(client) == (408, "invalid_argument")


async def test_a_second_head_is_bounded_in_time_too(make_edge: EdgeFactory) -> None:
    edge = await make_edge(Limits(head_timeout_s=0.2))
    client = await edge.client()
    client.request("GET", "/v1/x")
    assert (await client.response())[0] == 200
    client.send(b"GET / HT")
    assert await refusal(client) == (408, "invalid_argument")


async def test_a_slow_body_is_no_slow_head(make_edge: EdgeFactory) -> None:
    edge = await make_edge(Limits(head_timeout_s=0.05))
    client = await edge.client()
    client.request("POST", "/v1/x", "content-length: 2", body=b"a")
    await asyncio.sleep(0.1)
    client.send(b"b")
    assert (await client.response())[2] == b"api:ab"


@pytest.mark.parametrize("framing", ["content-length: 100", "transfer-encoding: chunked"])
async def test_a_body_that_is_cut_off(edge: Edge, framing: str) -> None:
    client = await edge.client()
    client.request("POST", "/v1/x", framing, body=b"5\r\nhello\r\n")
    client.writer.write_eof()
    assert await refusal(client) == (400, "invalid_argument")
    assert edge.api == []


async def test_there_are_only_so_many_connections(make_edge: EdgeFactory) -> None:
    edge = await make_edge(Limits(max_connections=2))
    first, second = await edge.client(), await edge.client()
    for client in (first, second):
        client.request("GET", "/v1/x")
        await client.response()
    assert await refusal(await edge.client()) == (503, "unavailable")
    first.writer.close()
    second.request("GET", "/v1/x")
    assert (await second.response())[0] == 200


async def test_the_body_of_a_refused_request_is_not_read_for_ever(make_edge: EdgeFactory) -> None:
    edge = await make_edge(Limits(refused_body_bytes=100_000))
    client = await edge.client()
    client.request("POST", edge.agent(), f"content-length: {10**12}", key="wrong")
    assert (await client.head())[0] == 401
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            client.send(b"x" * 65536)
            await client.writer.drain()


async def test_a_small_refused_body_leaves_the_connection_usable(edge: Edge) -> None:
    client = await edge.client()
    client.request("POST", edge.agent(), "content-length: 10", key="wrong", body=b"01234")
    assert (await client.response())[0] == 401
    client.send(b"56789")
    client.request("GET", "/v1/x")
    assert (await client.response())[2] == b"api:"


async def test_requests_sent_without_waiting_are_answered_in_order(edge: Edge) -> None:
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"
    edge.sandbox.script = answer(ok + b"1", ok + b"2")
    client = await edge.client()
    client.request("GET", edge.agent("/1"))
    client.request("GET", edge.agent("/2"))
    client.request("GET", "/v1/x")
    assert [(await client.response())[2] for _ in range(3)] == [b"1", b"2", b"api:"]


async def test_trailers_of_a_client_are_dropped(edge: Edge) -> None:
    client = await edge.client()
    client.request("POST", "/v1/x", "transfer-encoding: chunked", body=b"1\r\na\r\n0\r\nx-api-key: late\r\n\r\n")
    assert (await client.response())[2] == b"api:a"
    assert (b"x-api-key", b"late") not in edge.api[0]["headers"]
