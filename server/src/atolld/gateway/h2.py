"""The client's side in HTTP/2: one connection, many requests, each an ASGI call like those of HTTP/1.1.

What a client can make us keep is bounded: streams at once, header bytes, body bytes that nobody has taken yet, resets
without end, and answers of ours (to pings, settings) that it does not read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from uvicorn.config import Config
from uvicorn.server import ServerState

from atolld.foundation.aio import spawn
from atolld.gateway.h2stream import Stream
from atolld.gateway.server import Limits

log = logging.getLogger("atolld.gateway")

MAX_STREAMS = 100
# A stream's may be used up by a body that nobody takes; the connection's is what a client can make us keep in all.
STREAM_WINDOW = 512 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
DATA_FRAME_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
# The longest headers, with what frames them.
MAX_FRAME_BYTES = 2 * MAX_HEADER_BYTES
MAX_RESETS = 200
MAX_UNREAD_BYTES = 4 * 1024 * 1024

# What HTTP/2 begins with.
_FIRST_WINDOW = 65_535


class Http2Protocol(asyncio.Protocol):
    """One client's connection, agreed on by ALPN."""

    def __init__(self, config: Config, server_state: ServerState, limits: Limits) -> None:
        self._config = config
        self._state = server_state
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.TimerHandle | None = None
        self._resets = 0
        self._without_event = 0
        self._going_away = False
        self._streams: dict[int, Stream] = {}
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods without the base class.
        self.transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self.h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_FRAME_SIZE: DATA_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        # Replaced as a whole, settings reach the parser by hand.
        self.h2.max_inbound_frame_size = DATA_FRAME_BYTES
        self.h2.decoder.max_header_list_size = MAX_HEADER_BYTES
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - _FIRST_WINDOW)
        self.flush()
        self._arm_idle(self._limits.head_timeout_s)
        if len(self._state.connections) > self._limits.max_connections:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
            # The library waits for the end of a frame before it finds it too long.
            self._without_event = 0 if events else self._without_event + len(data)
            if self._without_event > MAX_FRAME_BYTES:
                self._go_away(ErrorCodes.FRAME_SIZE_ERROR)
            for event in events:
                if self.transport.is_closing():
                    return
                self._handle(event)
        except ProtocolError as error:
            log.debug("a client broke HTTP/2: %s", error)
            self.flush()
            self.transport.close()
            return
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()
        self.writable.set()
        for stream in list(self._streams.values()):
            stream.gone()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def shutdown(self) -> None:
        """Take no more requests; close when the last one is answered."""
        self._going_away = True
        if self._streams:
            return
        self._go_away(ErrorCodes.NO_ERROR)

    def flush(self) -> None:
        """Write what is due."""
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)
            if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self.transport.abort()

    def finished(self, stream: Stream) -> None:
        """A request's call is over."""
        if self._streams.pop(stream.id, None) is None:
            return
        if not self._streams:
            if self._going_away:
                self._go_away(ErrorCodes.NO_ERROR)
            else:
                self._arm_idle(self._config.timeout_keep_alive)

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            stream = self._streams.get(event.stream_id or 0)
            if stream is None:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            else:
                stream.data(event.data or b"", event.flow_controlled_length or 0)
        elif isinstance(event, StreamEnded):
            if (stream := self._streams.get(event.stream_id or 0)) is not None:
                stream.ended()
        elif isinstance(event, StreamReset):
            self._reset(event.stream_id or 0)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            for stream in list(self._streams.values()):
                stream.window.set()
        elif isinstance(event, ConnectionTerminated):
            self.transport.close()

    def _begin(self, event: RequestReceived) -> None:
        assert event.stream_id is not None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        scope = _scope(event.headers or [], event.stream_ended is not None, self.transport)
        if scope is None or self._going_away:
            error = ErrorCodes.PROTOCOL_ERROR if scope is None else ErrorCodes.REFUSED_STREAM
            self.h2.reset_stream(event.stream_id, error)
            self._count_reset()
            return
        stream = Stream(self, event.stream_id, scope)
        self._streams[stream.id] = stream
        self._state.total_requests += 1
        task = spawn(stream.run(self._config.loaded_app), name="http2-request", report=False)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _reset(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.gone()
            self._count_reset()

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > MAX_RESETS:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM)

    def served(self) -> None:
        """A request was answered in full: the client does not only begin and give up."""
        self._resets = max(0, self._resets - 1)

    def _go_away(self, error: ErrorCodes) -> None:
        if self.transport.is_closing():
            return
        self.h2.close_connection(error)
        self.flush()
        self.transport.close()

    def _arm_idle(self, seconds: float) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(seconds, self._go_away, ErrorCodes.NO_ERROR)


def _scope(headers: list[Any], ended: bool, transport: asyncio.Transport) -> dict[str, Any] | None:
    """The ASGI scope of a request's headers; None when they make none."""
    pseudo: dict[bytes, bytes] = {}
    given: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
        elif any(byte in value for byte in b"\r\n\0"):
            return None
        elif name == b"cookie":
            cookies.append(value)
        elif name != b"host":
            given.append((name, value))
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not target.startswith(b"/") or any(byte <= 0x20 or byte >= 0x7F for byte in target + method):
        return None
    given.insert(0, (b"host", pseudo.get(b":authority") or _host(headers)))
    if cookies:
        given.append((b"cookie", b"; ".join(cookies)))
    if not ended and not any(name == b"content-length" for name, _ in given):
        # Towards a sandbox, which speaks HTTP/1.1, such a body goes in chunks.
        given.append((b"transfer-encoding", b"chunked"))
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": method.decode("ascii"),
        "scheme": "https",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": given,
        "client": transport.get_extra_info("peername", ("", 0))[:2],
        "server": transport.get_extra_info("sockname", ("", 0))[:2],
        "state": {},
    }


def _host(headers: list[Any]) -> bytes:
    return next((value for name, value in headers if name == b"host"), b"")
