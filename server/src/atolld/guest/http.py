"""One small HTTP/1.1 exchange with an agent, bounded in time and in what it will read.

The agent sits in a hostile sandbox: its answer is parsed with limits and anything beyond them is an error.
Streams do not pass here; they go through `atolld.gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from atolld.foundation.errors import GuestUnreachable

AGENT_PORT = 49983

# The first SYN into a gVisor sandbox can be lost, and TCP's own retry comes only after a second: so several short
# attempts of our own. Between attempts the agent is usually a few milliseconds from listening.
CONNECT_TIMEOUTS_S = (0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
RETRY_PAUSE_S = 0.002
MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 256 * 1024
READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class GuestResponse:
    """Status and whole body of an answer."""

    status: int
    body: bytes


async def dial(address: str, port: int = AGENT_PORT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to an agent, tried again until it listens: the caller bounds the time.

    `address` may end in `:<port>`, which then counts.
    """
    address, _, own_port = address.partition(":")
    port = int(own_port) if own_port else port
    attempt = 0
    while True:
        limit_s = CONNECT_TIMEOUTS_S[min(attempt, len(CONNECT_TIMEOUTS_S) - 1)]
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.open_connection(address, port)
        except TimeoutError:
            attempt += 1
        except OSError:
            # Refused or unreachable: the agent is not listening yet; the caller's deadline ends this.
            await asyncio.sleep(RETRY_PAUSE_S)


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> GuestResponse:
    """Send one request on an open connection and read the whole answer.

    Raises GuestUnreachable when the agent closes early, breaks HTTP or answers with more than 256 KiB; OSError when the
    connection breaks. The caller bounds the time and closes the connection.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    fields = [("host", "agent"), ("connection", "close"), *headers.items()]
    if body:
        fields.append(("content-length", str(len(body))))
    request = h11.Request(method=method, target=path, headers=fields)
    payload = connection.send(request) or b""
    if body:
        payload += connection.send(h11.Data(data=body)) or b""
    payload += connection.send(h11.EndOfMessage()) or b""
    writer.write(payload)
    await writer.drain()
    status = 0
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise GuestUnreachable(f"the agent broke HTTP: {error}") from error
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise GuestUnreachable(f"the agent answered {path} with more than {MAX_BODY_BYTES} bytes")
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return GuestResponse(status, b"".join(parts))
        elif isinstance(event, h11.ConnectionClosed):
            raise GuestUnreachable("the agent closed the connection before it answered")
