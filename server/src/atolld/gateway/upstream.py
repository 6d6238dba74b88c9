"""One HTTP/1.1 connection towards a sandbox, whose other end is hostile.

Written on asyncio's transports rather than streams: a chunk is copied once on its way, reading stops while nobody takes
what was read, and every size the other end chooses is bounded. At most about 256 KiB wait in either direction.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools

from atolld.gateway.errors import UpstreamBroken

READ_BYTES = 128 * 1024
MAX_QUEUED_BYTES = 128 * 1024
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256

# Shared by all connections of a loop: it is filled by one read and emptied before the next read of any connection.
_read_buffer = bytearray(READ_BYTES)
_read_view = memoryview(_read_buffer)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers (names in lower case). `length`: the body's bytes, None when only its end tells."""

    status: int
    headers: Headers
    length: int | None


class UpstreamConnection(asyncio.BufferedProtocol):
    """One exchange at a time: `begin`, `write` the body, `response_head`, `read` until empty, then look at `reusable`.

    `on_lost` is called once when the connection is gone, however that came.
    """

    def __init__(self, on_lost: Callable[[UpstreamConnection], None] | None = None) -> None:
        self.on_lost = on_lost
        self.used = False
        # What is told when the other end resets the connection, where that is known beforehand.
        self.reset_because: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._tunnel: Callable[[bytes], None] | None = None
        self._busy = False
        self._reset(b"")

    def _reset(self, method: bytes) -> None:
        self._method = method
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._without_progress = 0
        self._headers: Headers = []
        self._head: ResponseHead | None = None
        self._complete = False
        self._until_eof = False
        self._keep_alive = False
        self._received_any = False
        self._interim = False
        self._leftover = b""

    # What the gateway does with it.

    @property
    def reusable(self) -> bool:
        """Whether the exchange ended so cleanly that another may follow on this connection."""
        return self._complete and self._keep_alive and not self._queued and self._failure is None

    @property
    def alive(self) -> bool:
        """Whether the other end has not closed."""
        return self._failure is None and self._transport is not None and not self._transport.is_closing()

    @property
    def answered(self) -> bool:
        """Whether the head of the answer is here, so that `response_head` will not wait."""
        return self._head is not None

    def begin(self, method: bytes, data: bytes) -> None:
        """Send a request's head, and what is known of its body, in one write."""
        assert self._transport is not None
        self._reset(method)
        self._busy = True
        self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Send more; waits while the other end takes nothing. Raises UpstreamBroken when it is gone."""
        if self._failure is not None or self._transport is None:
            raise self._failure or UpstreamBroken("the connection to the sandbox is closed")
        self._transport.write(data)
        while self._write_paused and self._failure is None:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def response_head(self) -> ResponseHead:
        """Wait for the answer's head. Raises UpstreamBroken."""
        while self._head is None:
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return self._head

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end. Raises UpstreamBroken when it ends too early."""
        while not self._chunks:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait()
        chunk = self._chunks.popleft()
        self._queued -= len(chunk)
        if self._read_paused and not self._chunks and self._transport is not None:
            self._read_paused = False
            self._transport.resume_reading()
        return chunk

    def finish(self) -> None:
        """The exchange is over; the connection goes back to being idle."""
        self._busy = False
        self.used = True

    def abort(self, why: Exception | None = None) -> None:
        """Close at once; whoever waits here gets `why`."""
        self._fail(why or UpstreamBroken("the connection to the sandbox was closed"))

    def detach(self) -> tuple[asyncio.Transport, bytes, Callable[[Exception | None], None]]:
        """Give the raw connection away after an answer 101, as `relay` takes it; `abort` still cuts it."""
        assert self._transport is not None
        return self._transport, self._leftover, self.connection_lost

    async def open_tunnel(self, request: bytes) -> bytes:
        """Send a CONNECT request; the head of its answer. After status 200 the connection is the target's.

        Raises UpstreamBroken when the other end closes or sends more than 64 KiB without ending the head.
        """
        assert self._transport is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        received = bytearray()

        def take(data: bytes) -> None:
            received.extend(data)
            end = received.find(b"\r\n\r\n")
            if end < 0 and len(received) > MAX_HEAD_BYTES:
                self._fail(UpstreamBroken("the agent's answer to CONNECT has no end"))
            elif end >= 0 and not answer.done():
                self._tunnel = None
                answer.set_result(bytes(received[:end]))

        self._tunnel = take
        self._busy = True
        self._transport.write(request)
        while not answer.done():
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return answer.result()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_view

    def buffer_updated(self, nbytes: int) -> None:
        if self._tunnel is not None:
            self._tunnel(bytes(_read_view[:nbytes]))
            self._wake_reader()
            return
        if not self._busy or self._complete:
            self._fail(UpstreamBroken("the sandbox sent bytes that nobody asked for"))
            return
        self._received_any = True
        self._without_progress += nbytes
        try:
            self._parser.feed_data(_read_view[:nbytes])
        except httptools.HttpParserUpgrade as upgrade:
            self._leftover = bytes(_read_view[upgrade.args[0] : nbytes])
        except httptools.HttpParserError as error:
            self._fail(UpstreamBroken(f"the sandbox does not speak HTTP/1.1 as it should: {str(error)[:120]}"))
            return
        if self._without_progress > MAX_HEAD_BYTES and not self._complete:
            self._fail(UpstreamBroken(f"the sandbox sent more than {MAX_HEAD_BYTES} bytes that are no content"))
        elif self._queued >= MAX_QUEUED_BYTES and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._until_eof and exc is None and self._failure is None:
            self._complete = True
        reason = f": {exc}" if exc is not None else ""
        broken = UpstreamBroken(f"the sandbox closed the connection{reason}", nothing_received=not self._received_any)
        self._fail(broken if exc is None else self.reset_because or broken)
        self._transport = None
        if self.on_lost is not None:
            on_lost, self.on_lost = self.on_lost, None
            on_lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is not None:
            return
        self._headers.append((name.lower(), value))
        if len(self._headers) > MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if 100 <= status < 200 and status != 101:
            self._interim = True
            return
        if not 101 <= status <= 599:
            raise ValueError(f"status {status}")
        self._without_progress = 0
        bodiless = self._method == b"HEAD" or status in (101, 204, 304)
        length, chunked = _framing(headers)
        self._until_eof = not bodiless and length is None and not chunked
        self._head = ResponseHead(status, headers, length)
        if self._method == b"HEAD":
            # The parser waits for a body that a HEAD never has, so this connection ends here.
            self._complete = True

    def on_body(self, body: bytes) -> None:
        self._without_progress = 0
        if not self._complete:
            self._chunks.append(body)
            self._queued += len(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        if not self._complete and self._head is not None and self._head.status != 101:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # Inside.

    async def _wait(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _fail(self, why: Exception) -> None:
        if self._failure is None:
            self._failure = why
        if self._transport is not None:
            self._transport.abort()
        self._wake_reader()
        self._wake_writer()


def _framing(headers: Headers) -> tuple[int | None, bool]:
    """The content length, None when there is none, and whether the body is chunked."""
    length: int | None = None
    chunked = False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = value.rpartition(b",")[2].strip().lower() == b"chunked"
    return (None if chunked else length), chunked
