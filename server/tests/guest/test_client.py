from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from atolld.foundation.errors import GuestUnreachable
from atolld.guest.client import GuestClient, GuestInit
from atolld.guest.envelope import encode

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]

INIT = GuestInit(
    access_token="secret",
    now=1_700_000_000.0,
    sandbox_id="i0123456789012345678",
    template_id="base",
    hostname="box",
    default_workdir="/srv",
    envs={"A": "1"},
    pids_max=64,
)


@asynccontextmanager
async def agent(answer: Answer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
        await answer(head + await reader.readexactly(length), writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def fixed(raw: bytes) -> Answer:
    async def answer(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return answer


async def test_init_is_sent_whole_and_without_the_token_in_the_head() -> None:
    seen: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with agent(answer) as port:
        await GuestClient("127.0.0.1", port).wait_ready(INIT, 5)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /init HTTP/1.1")
    assert b"secret" not in head
    assert json.loads(body) == {
        "accessToken": "secret",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "sandboxId": "i0123456789012345678",
        "templateId": "base",
        "hostname": "box",
        "defaultUser": "user",
        "defaultWorkdir": "/srv",
        "envVars": {"A": "1"},
        "pidsMax": 64,
    }


async def test_a_later_init_says_only_what_changes_and_shows_the_old_token() -> None:
    seen: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with agent(answer) as port:
        init = GuestInit("new", INIT.now, default_user=None)
        await GuestClient("127.0.0.1", port, token="old").wait_ready(init, 5)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"x-access-token: old" in head.lower()
    assert json.loads(body) == {"accessToken": "new", "timestamp": "2023-11-14T22:13:20.000Z", "envVars": {}}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "status 401"),
        (b"nonsense\r\n\r\n", "broke HTTP"),
        (b"HTTP/1.1 204 No Content\r\nx: " + b"a" * 200_000 + b"\r\n\r\n", "broke HTTP"),
        (b"", "closed|broke HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n" + b"a" * 400_000, "more than"),
    ],
)
async def test_a_bad_answer_is_an_error_that_says_why(raw: bytes, told: str) -> None:
    async with agent(fixed(raw)) as port:
        with pytest.raises(GuestUnreachable, match=told):
            await GuestClient("127.0.0.1", port).wait_ready(INIT, 5)


async def test_an_agent_that_never_listens_is_given_up_at_the_deadline() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(GuestUnreachable, match="within 0.05 s"):
        await GuestClient("127.0.0.1", port).wait_ready(INIT, 0.05)


@pytest.mark.parametrize(
    ("status", "body", "needs"),
    [
        ("200 OK", b'{"needAddress":false}', False),
        ("200 OK", b'{"needAddress":true}', True),
        ("200 OK", b"[]", True),
        ("200 OK", b"?", True),
        ("404 Not Found", b'{"needAddress":false}', True),
    ],
)
async def test_only_a_clear_no_frees_a_guest_of_its_address(status: str, body: bytes, needs: bool) -> None:
    answer = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    async with agent(fixed(answer)) as port:
        assert await GuestClient("127.0.0.1", port, "t").needs_address(5) is needs


@pytest.mark.parametrize(("status", "body"), [("200 OK", b"[]"), ("200 OK", b"?"), ("404 Not Found", b"{}")])
async def test_variables(status: str, body: bytes) -> None:
    good = b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"A":"b","C":""}'
    async with agent(fixed(good)) as port:
        assert await GuestClient("127.0.0.1", port, "t").envs(5) == {"A": "b", "C": ""}
    bad = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    async with agent(fixed(bad)) as port:
        with pytest.raises(GuestUnreachable, match="variables"):
            await GuestClient("127.0.0.1", port, "t").envs(5)


async def test_health_and_info() -> None:
    async with agent(fixed(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        assert await GuestClient("127.0.0.1", port).healthy(5)
    async with agent(fixed(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")) as port:
        assert not await GuestClient("127.0.0.1", port).healthy(5)
    async with agent(fixed(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b'{"pid": 12}')) as port:
        assert await GuestClient("127.0.0.1", port, "t").info() == {"pid": 12}
    async with agent(fixed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")) as port:
        with pytest.raises(GuestUnreachable):
            await GuestClient("127.0.0.1", port, "t").info()


async def test_a_rehearsal_runs_a_command_and_is_bounded_in_time() -> None:
    seen: list[bytes] = []
    end = encode({"event": {"end": {"exited": True}}})

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(end), end))

    async def nothing(_request: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with agent(answer) as port:
        await GuestClient(f"127.0.0.1:{port}", token="secret").rehearse(5)
    assert b"POST /process.Process/Start" in seen[0] and b'"cmd":"/bin/sh"' in seen[0] and b"secret" in seen[0]
    async with agent(nothing) as port:
        with pytest.raises(GuestUnreachable, match="within 0.05 s"):
            await GuestClient(f"127.0.0.1:{port}", token="secret").rehearse(0.05)
