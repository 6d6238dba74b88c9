"""The client's side: uvicorn's HTTP/1.1 protocol with the bounds it lacks and a door for raw tunnels.

Added: a time limit and a size limit for request heads, a limit on connections, an answer in the API's own form to
broken HTTP and cut-off bodies, no endless reading of a body that was refused, and `Wire` for what ASGI cannot say.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from atolld.foundation.errors import AtollError, InvalidArgument, Unavailable
from atolld.foundation.ids import new_request_id
from atolld.gateway.directory import ErrorRenderer
from atolld.gateway.relay import Ended
from atolld.gateway.wire import EXTENSION

log = logging.getLogger("atolld.gateway")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the client's side; bytes, seconds, connections.

    `refused_body_bytes`: how much of a body is still read and thrown away after its request was answered, so that the
    client gets to read the answer; `linger_s`: how long that is waited for when the connection cannot go on.
    """

    head_bytes: int = 64 * 1024
    head_timeout_s: float = 15.0
    refused_body_bytes: int = 8 * 1024 * 1024
    linger_s: float = 2.0
    max_connections: int = 10_000
    tunnel_tail_bytes: int = 64 * 1024


class ConnectionWire:
    """See `atolld.gateway.wire.Wire`."""

    def __init__(self, protocol: EdgeProtocol) -> None:
        self._protocol = protocol
        # Of a client that does not wait for answers the connection may already be at a later request.
        self.cycle: RequestResponseCycle | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._protocol.transport.is_closing()

    @property
    def body_is_here(self) -> bool:
        """Whether `receive` would return at once: some of the body has come, or there is no more."""
        return self.cycle is not None and (bool(self.cycle.body) or not self.cycle.more_body)

    def cut(self) -> None:
        """Close so that the client sees its answer was cut short."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self._protocol.transport.close()

    def take_over(self, head: bytes) -> tuple[asyncio.Transport, bytes, Ended]:
        """Write `head` as the answer and give the raw connection away, as `relay` takes it."""
        return self._protocol.take_over(head)


class EdgeProtocol(HttpToolsProtocol):
    """One client's connection. `limits` and `render` are set on a subclass made by `edge_protocol`."""

    limits: Limits
    render: ErrorRenderer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._discarded = 0
        self._upgraded = False
        self._refused = False
        self._tail = b""
        if len(self.connections) > self.limits.max_connections:
            self._refuse(Unavailable("the daemon has as many connections as it may have; try again later"), None)
            return
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._refused:
            self._discard(data)
            return
        if self._upgraded:
            self._keep_tail(data)
            return
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head or self._idle():
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._arm_head_timer()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded = True
            self.cycle.keep_alive = False
            self._keep_tail(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(InvalidArgument(f"this is not HTTP/1.1 as it should be: {str(error)[:120]}"), 400)
            return
        if self._in_head and self._head_bytes > self.limits.head_bytes:
            message = f"the request's headers have more than {self.limits.head_bytes} bytes"
            self._refuse(InvalidArgument(message), 431)

    def eof_received(self) -> None:
        cycle = self.cycle
        if self._refused or self.transport.is_closing():
            return
        if cycle is not None and cycle.more_body and not cycle.response_started:
            self._refuse(InvalidArgument("the request's body ended before it was complete"), 400)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._wire = ConnectionWire(self)
        self.scope["extensions"] = {EXTENSION: self._wire}  # type: ignore[dict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come by the same door; nothing of ours takes them.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._disarm_head_timer()
        super().on_headers_complete()
        self._wire.cycle = self.cycle

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._discard(body)
            return
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidArgument(msg), 400)

    def take_over(self, head: bytes) -> tuple[asyncio.Transport, bytes, Ended]:
        """See `Wire.take_over`."""
        self.cycle.disconnected = True
        self.transport.write(head)
        tail, self._tail = self._tail, b""
        self.flow.resume_reading()
        return self.transport, tail, self.connection_lost

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > self.limits.refused_body_bytes:
            self.transport.abort()

    def _idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def _keep_tail(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) > self.limits.tunnel_tail_bytes:
            self.flow.pause_reading()

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_too_slow)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            limit_s = self.limits.head_timeout_s
            self._refuse(InvalidArgument(f"the request's headers did not arrive within {limit_s:g} s"), 408)

    def _refuse(self, error: AtollError, status: int | None) -> None:
        """Answer without ASGI, when there is no request to hand on, and close."""
        self._disarm_head_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        answer = self.render(error, new_request_id(), status=status)
        parts = [STATUS_LINE[answer.status]]
        for name, value in (*answer.headers, (b"connection", b"close")):
            parts += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*parts, b"\r\n", answer.body)))
        # Closed at once, what the client still sends would reset the connection before it has read the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._refused = True
        self._head_timer = self.loop.call_later(self.limits.linger_s, self.transport.abort)


def edge_protocol(render: ErrorRenderer, limits: Limits | None = None) -> type[EdgeProtocol]:
    """The protocol class for uvicorn's `Config(http=...)`; use it with `ws="none"`."""
    namespace: dict[str, Any] = {"limits": limits or Limits(), "render": staticmethod(render)}
    return type("ConfiguredEdgeProtocol", (EdgeProtocol,), namespace)
