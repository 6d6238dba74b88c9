"""What every request passes before it is routed: an id, a bound on its body and its time, one line in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from atolld.api.dialects import App, Dialect, Message, Receive, Scope, Send
from atolld.api.errors import Renderer, internal
from atolld.api.streams import MAX_BODY_BYTES
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import AtollError, DeadlineExceeded, InvalidArgument, Unavailable
from atolld.foundation.ids import new_request_id

log = logging.getLogger("atolld.api")

DataPlane = Callable[[Scope, Receive, Send, str], Awaitable[None]]
IsDataPlane = Callable[[bytes, list[tuple[bytes, bytes]]], bool]

BODY_TIMEOUT_S = 20.0

current_request: ContextVar[str | None] = ContextVar("atolld_request_id", default=None)


class _ClientGone(Exception):
    """The body will never be complete."""


class _Answer:
    """`send` of one request, which adds the request's id and knows what was sent."""

    def __init__(self, send: Send, request_id: str, render: Renderer) -> None:
        self._send = send
        self._render = render
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
            message["headers"] = [*headers, (b"x-request-id", self._request_id.encode())]
        await self._send(message)

    async def tell(self, error: AtollError, status: int | None = None) -> None:
        """Answer with `error`, unless an answer has begun already."""
        if self.status == 0:
            told = self._render(error, self._request_id, status)
            await self({"type": "http.response.start", "status": told.status, "headers": told.headers})
            await self({"type": "http.response.body", "body": told.body})


class Entry:
    """The outermost ASGI application.

    Requests for which `is_data_plane(path, headers)` is true go to `data_plane` at once, unread; all others to the
    dialect of their path, with their body read whole: at most 64 KiB or what the dialect says, within 20 s. What a
    dialect calls a stream is left to its handler. `observe(route, status, seconds)` is told of every answer of the API.
    """

    def __init__(
        self,
        dialect_of: Callable[[str], Dialect],
        data_plane: DataPlane,
        is_data_plane: IsDataPlane,
        observe: Callable[[str, int, float], None],
    ) -> None:
        self._dialect_of = dialect_of
        self._data_plane = data_plane
        self._is_data_plane = is_data_plane
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the daemon does not serve {scope['type']!r}")
        request_id = new_request_id()
        current_request.set(request_id)
        scope.setdefault("state", {})["request_id"] = request_id
        if self._is_data_plane(scope.get("raw_path") or scope["path"].encode(), scope["headers"]):
            await self._data_plane(scope, receive, send, request_id)
            return
        started = time.perf_counter()
        dialect = self._dialect_of(scope["path"])
        answer = _Answer(send, request_id, dialect.render)
        try:
            await _serve(dialect, scope, receive, answer)
        except _ClientGone:
            return
        except AtollError as error:
            await answer.tell(error, 413 if "limit_bytes" in error.details else None)
        except asyncio.CancelledError:
            await answer.tell(Unavailable("the daemon is stopping; send the request again"))
        except Exception:
            log.exception("request failed unexpectedly", extra={"method": scope["method"], "path": scope["path"][:200]})
            await answer.tell(internal(request_id))
        if answer.status:
            self._done(scope, answer.status, time.perf_counter() - started)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._observe(route, status, seconds)
        level = logging.DEBUG if route in ("/health", "/metrics") else logging.INFO
        extra = {"method": scope["method"], "path": scope["path"][:200], "status": status, "seconds": round(seconds, 4)}
        log.log(level, "request", extra=extra)


async def _serve(dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
    if dialect.is_stream(scope["method"], scope["path"]):
        await dialect.app(scope, receive, send)
        return
    body = await read_body(scope, receive, dialect.max_body_bytes(scope["method"], scope["path"]))
    if scope["method"] == "POST" and scope["path"] in dialect.creates:
        await _while_wanted(dialect.app, scope, body, receive, send)
    elif scope["method"] == "POST" and scope["path"] in dialect.endless:
        await dialect.app(scope, _replay(body, receive), send)
    else:
        await dialect.app(scope, _replay(body), send)


async def _while_wanted(app: App, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    # A create whose client has gone away would leave a sandbox that nobody knows of.
    work = spawn(app(scope, _replay(body), send), name="create-request", report=False)
    gone = spawn(_until_gone(receive), name="create-client", report=False)
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("the client went away during a create")
            raise _ClientGone
        await work
    finally:
        await cancel_and_wait(*(task for task in (work, gone) if not task.done()))


async def read_body(scope: Scope, receive: Receive, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body of a request.

    Raises InvalidArgument over `limit` bytes (with the detail `limit_bytes`), DeadlineExceeded after 20 s.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGone
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise DeadlineExceeded(f"the request's body did not arrive within {BODY_TIMEOUT_S:g} s") from None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> InvalidArgument:
    return InvalidArgument(f"the request's body has more than {limit} bytes", limit_bytes=limit)


def _replay(body: bytes, then: Receive | None = None) -> Receive:
    waiting = [body]

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        if then is not None:
            return await then()
        # Nothing here watches for a client that goes away: what was begun is finished, and kept by its row.
        await asyncio.Event().wait()
        raise AssertionError("unreachable: the event is never set")

    return receive
