from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from atolld.api import entry
from atolld.api.dialects import Dialect, Message, Receive, Scope, Send
from atolld.api.entry import Entry, current_request
from atolld.api.streams import MAX_BODY_BYTES
from atolld.control.testing import until

from .conftest import Api

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 200 * 1024])
async def test_a_large_body_is_refused_by_its_length(api: Api, size: int) -> None:
    got = await api.error("POST", "/v1/sandboxes", content=b"x" * size, headers=JSON)
    assert got == (413, "invalid_argument", "the request's body has more than 65536 bytes")


async def test_a_large_body_without_a_length_is_refused_too(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    assert (await api.error("POST", "/v1/sandboxes", content=endless(), headers=JSON))[0] == 413


async def test_a_body_of_exactly_the_limit_is_read(api: Api) -> None:
    body = b'{"template": "nope"}'.ljust(MAX_BODY_BYTES)
    assert (await api.error("POST", "/v1/sandboxes", content=body, headers=JSON))[:2] == (404, "not_found")


async def test_a_body_that_never_comes_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "BODY_TIMEOUT_S", 0.01)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert (await api.error("POST", "/v1/sandboxes", content=stuck(), headers=JSON))[:2] == (504, "deadline_exceeded")


async def test_every_answer_has_an_id_and_is_observed(api: Api) -> None:
    first = await api.http.get("/health")
    second = await api.http.get("/v1/sandboxes/i0000000000000000000")
    ids = [one.headers["x-request-id"] for one in (first, second)]
    assert len(set(ids)) == 2 and all(id.startswith("req_") for id in ids)
    assert api.observed == [("/health", 200), ("/v1/sandboxes/{id}", 404)]


async def test_a_create_whose_client_goes_away_leaves_nothing(api: Api) -> None:
    gate = api.world.node.hold("launch")
    gone = asyncio.Event()
    body = b'{"runtime": "fake"}'
    messages: list[Message] = []
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    key = api.http.headers["x-api-key"].encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/sandboxes",
        "raw_path": b"/v1/sandboxes",
        "query_string": b"",
        "headers": [(b"x-api-key", key), (b"content-type", b"application/json")],
    }
    app = api.http._transport.app  # type: ignore[attr-defined]
    serving = asyncio.ensure_future(app(scope, receive, send))  # noqa: TID251
    await gate.reached.wait()
    gone.set()
    gate.opened.set()
    await serving
    assert messages == []
    await until(lambda: not api.world.node.machine.sandboxes and not api.world.sandboxes.counts())


async def test_the_data_plane_gets_its_paths_unread() -> None:
    seen: list[tuple[str | None, str]] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("not the API's")

    async def data_plane(scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        seen.append((current_request.get(), request_id))

    async def receive() -> Message:
        raise AssertionError("the body is the data plane's to read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is answered here")

    app = Entry(lambda path: Dialect(api), data_plane, lambda path, headers: path == b"/d", lambda *_: None)
    await app({"type": "http", "method": "GET", "path": "/d", "raw_path": b"/d", "headers": []}, receive, send)
    assert len(seen) == 1 and seen[0][0] == seen[0][1]
