"""One request of an HTTP/2 connection as an ASGI call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from atolld.gateway.headers import HOP_BY_HOP
from atolld.gateway.relay import Ended
from atolld.gateway.wire import EXTENSION

if TYPE_CHECKING:
    from atolld.gateway.h2 import Http2Protocol

log = logging.getLogger("atolld.gateway")

Message = MutableMapping[str, Any]


class Stream:
    """`data`, `ended`, `gone` tell it what the client does; `run` calls the application."""

    def __init__(self, connection: Http2Protocol, id: int, scope: dict[str, Any]) -> None:
        self.id = id
        self.window = asyncio.Event()
        self._connection = connection
        self._scope = scope
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._more = True
        self._told_end = False
        self._arrived = asyncio.Event()
        self._gone = False
        self._complete = False
        scope["extensions"] = {EXTENSION: StreamWire(self)}

    # What the client does.

    def data(self, data: bytes, length: int) -> None:
        """Some of the body, which takes `length` of the window until it is read."""
        if self._complete:
            self._acknowledge(length)
            return
        self._chunks.append((data, length))
        self._arrived.set()

    def ended(self) -> None:
        """The body is complete."""
        self._more = False
        self._arrived.set()

    def gone(self) -> None:
        """The client has given up, or its connection is lost."""
        self._gone = True
        self._arrived.set()
        self.window.set()

    # What the application does.

    @property
    def is_gone(self) -> bool:
        """Whether nobody takes an answer any more."""
        return self._gone

    @property
    def body_is_here(self) -> bool:
        """Whether `receive` would return at once."""
        return bool(self._chunks) or not self._more

    async def run(self, app: Any) -> None:
        """Call the application; an answer that it leaves incomplete is cut."""
        try:
            if not self._gone:
                await app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("a request failed unexpectedly", extra={"path": self._scope["path"][:200]})
        finally:
            if self._complete:
                self._connection.served()
            self._end(ErrorCodes.NO_ERROR if self._complete else ErrorCodes.INTERNAL_ERROR)
            self._connection.finished(self)

    async def receive(self) -> Message:
        """The next message of ASGI."""
        while not (self._gone or self._complete) and (self._told_end or not self.body_is_here):
            self._arrived.clear()
            await self._arrived.wait()
        if self._gone or self._complete:
            return {"type": "http.disconnect"}
        body = b""
        if self._chunks:
            body, length = self._chunks.popleft()
            self._acknowledge(length)
        more = bool(self._chunks) or self._more
        self._told_end = not more
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: Message) -> None:
        """Take a message of ASGI; waits for the client's window. What comes for a client that is gone is dropped."""
        if self._gone or self._complete:
            return
        try:
            if message["type"] == "http.response.start":
                self._send_head(message)
            else:
                await self._send_body(message.get("body", b""), not message.get("more_body", False))
        except ProtocolError as error:
            # A header that HTTP/2 does not allow, or a stream that ended in between.
            log.info("an answer could not be sent: %s", error)
            self.cut()

    def cut(self) -> None:
        """End the stream so that the client sees its answer is cut short."""
        self._end(ErrorCodes.INTERNAL_ERROR)
        self.gone()

    def _send_head(self, message: Message) -> None:
        headers = [(b":status", b"%d" % message["status"])]
        headers += [(name, value.strip()) for name, value in message.get("headers", ()) if name not in HOP_BY_HOP]
        self._connection.h2.send_headers(self.id, headers)
        self._connection.flush()

    async def _send_body(self, body: bytes, last: bool) -> None:
        connection = self._connection
        if self._scope["method"] == "HEAD":
            body = b""
        view = memoryview(body)
        while view:
            await connection.writable.wait()
            if self._gone:
                return
            room = min(connection.h2.local_flow_control_window(self.id), connection.h2.max_outbound_frame_size)
            if room <= 0:
                self.window.clear()
                await self.window.wait()
                continue
            connection.h2.send_data(self.id, bytes(view[:room]))
            connection.flush()
            view = view[room:]
        if last and not self._gone:
            connection.h2.end_stream(self.id)
            connection.flush()
            self._complete = True
            self._arrived.set()

    def _acknowledge(self, length: int) -> None:
        if length and not self._connection.transport.is_closing():
            try:
                self._connection.h2.acknowledge_received_data(length, self.id)
            except ProtocolError:
                # The connection is at its end.
                return
            self._connection.flush()

    def _end(self, error: ErrorCodes) -> None:
        while self._chunks:
            self._acknowledge(self._chunks.popleft()[1])
        if self._gone or (self._complete and not self._more):
            return
        try:
            self._connection.h2.reset_stream(self.id, error)
        except ProtocolError:
            # Closed on both sides already.
            return
        self._connection.flush()


class StreamWire:
    """See `atolld.gateway.wire.Wire`; HTTP/2 has no change of protocol."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def closed(self) -> bool:
        return self._stream.is_gone

    @property
    def body_is_here(self) -> bool:
        return self._stream.body_is_here

    def cut(self) -> None:
        self._stream.cut()

    def take_over(self, head: bytes) -> tuple[asyncio.Transport, bytes, Ended]:
        raise RuntimeError("a request of HTTP/2 cannot change its protocol")
