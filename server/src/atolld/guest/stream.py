"""One stream of messages from an agent: a call that is answered with many, as the Connect protocol has it.

What comes is bounded and read only as fast as it is taken, so a sandbox that talks without end costs no memory.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

import h11

from atolld.foundation.errors import FailedPrecondition, GuestUnreachable, InvalidArgument
from atolld.guest.envelope import Decoder, encode
from atolld.guest.http import MAX_HEAD_BYTES, READ_BYTES, dial

CONNECT_S = 10.0
KEEPALIVE_S = 10
# The agent says something every 10 s; a machine under load may keep it from that for long.
SILENCE_S = 75.0
MAX_MESSAGE = 500

_REFUSALS = frozenset({"invalid_argument", "not_found", "permission_denied", "unauthenticated", "already_exists"})


def user_header(user: str) -> dict[str, str]:
    """The header that names the sandbox's user whom a call is made as; a group behind a colon is left out."""
    name = user.partition(":")[0]
    return {"authorization": "Basic " + base64.b64encode(f"{name}:".encode()).decode()}


async def stream(
    address: str, token: str, method: str, message: Mapping[str, object], user: str
) -> AsyncGenerator[dict[str, object], None]:
    """Call `package.Service/Method` as `user` and give its messages in order, without the last one's frame.

    Raises InvalidArgument with the agent's own words when it refuses what was asked for, FailedPrecondition when it has
    no room for it, GuestUnreachable when it breaks off, says nothing for 75 s, or nonsense. Close it, also when it was
    not read to its end.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await dial(address)
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        writer.write(_request(connection, token, method, encode(message), user))
        decoder = Decoder()
        while True:
            async with asyncio.timeout(SILENCE_S):
                piece = await _read(connection, reader, method)
            for frame in decoder.feed(piece):
                if frame.is_end:
                    _raise_refusal(frame.message.get("error"))
                    return
                yield frame.message
    except TimeoutError:
        raise GuestUnreachable(f"the sandbox's agent says nothing more about {method}") from None
    except OSError as error:
        raise GuestUnreachable(f"the connection to the sandbox's agent broke: {error}") from error
    except h11.ProtocolError as error:
        raise GuestUnreachable(f"the agent broke HTTP: {error}") from error
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.close()


def _request(connection: h11.Connection, token: str, method: str, body: bytes, user: str) -> bytes:
    fields = {
        "host": "agent",
        "connection": "close",
        "x-access-token": token,
        "content-type": "application/connect+json",
        "connect-protocol-version": "1",
        "keepalive-ping-interval": str(KEEPALIVE_S),
        "content-length": str(len(body)),
        **user_header(user),
    }
    request = h11.Request(method="POST", target=f"/{method}", headers=list(fields.items()))
    parts = (connection.send(request), connection.send(h11.Data(data=body)), connection.send(h11.EndOfMessage()))
    return b"".join(part or b"" for part in parts)


async def _read(connection: h11.Connection, reader: asyncio.StreamReader, method: str) -> bytes:
    """The next piece of the answer's body. Raises GuestUnreachable at its end: the last frame comes before."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise GuestUnreachable(f"the agent answered {method} with status {event.status_code}")
        elif isinstance(event, h11.Data):
            return bytes(event.data)
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            raise GuestUnreachable(f"the agent closed {method} before its end")


def _raise_refusal(error: object) -> None:
    if error is None:
        return
    said = error if isinstance(error, dict) else {}
    code, text = said.get("code"), str(said.get("message", "it gave no reason"))[:MAX_MESSAGE]
    if code in _REFUSALS:
        raise InvalidArgument(text)
    if code == "resource_exhausted":
        raise FailedPrecondition(text)
    raise GuestUnreachable(f"the agent failed: {text}")
