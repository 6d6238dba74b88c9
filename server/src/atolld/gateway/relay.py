"""Raw bytes both ways after a change of protocol (WebSocket and whatever else a program speaks).

Two transports are wired to each other without a task or a queue: what arrives on one side is written to the other, a
side that is written to faster than it takes stops the other's reading, and an end of one direction is passed on alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Ended = Callable[[Exception | None], None]


class Side(asyncio.Protocol):
    """One end of a relay; `ended` is called when its connection is gone."""

    def __init__(self, transport: asyncio.Transport, ended: Ended) -> None:
        self._transport = transport
        self._ended = ended
        self._peer: Side | None = None
        self._eof_seen = False

    def join(self, peer: Side) -> None:
        """What arrives here goes to `peer` from now on."""
        self._peer = peer

    def start(self, first: bytes) -> None:
        """Take over the transport; `first` are bytes that had arrived before."""
        # Reading is stopped and begun anew, so that the loop reads in the way this protocol wants.
        self._transport.pause_reading()
        self._transport.set_protocol(self)
        if first:
            self.data_received(first)
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer._transport.write(data)

    def eof_received(self) -> bool:
        self._eof_seen = True
        peer = self._peer
        if peer is None or peer._transport.is_closing():
            return False
        if peer._eof_seen or not peer._transport.can_write_eof():
            # TLS has no end of one direction alone.
            peer._transport.close()
            return False
        peer._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._peer is not None and not self._peer._transport.is_closing():
            self._peer._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._peer is not None and not self._peer._transport.is_closing():
            self._peer._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer._peer = None
            if exc is None:
                peer._transport.close()
            else:
                peer._transport.abort()
        self._ended(exc)


async def relay(
    client: tuple[asyncio.Transport, bytes, Ended],
    sandbox: tuple[asyncio.Transport, bytes, Ended],
) -> None:
    """Carry bytes until both connections are gone.

    Each side: its transport, bytes already read from it, what to call at its end. A cancelled relay cuts both.
    """
    done = asyncio.get_running_loop().create_future()
    left = 2

    def ended(tell: Ended) -> Ended:
        def one(exc: Exception | None) -> None:
            nonlocal left
            left -= 1
            tell(exc)
            if left == 0 and not done.done():
                done.set_result(None)

        return one

    sides = Side(client[0], ended(client[2])), Side(sandbox[0], ended(sandbox[2]))
    sides[0].join(sides[1])
    sides[1].join(sides[0])
    sides[0].start(client[1])
    sides[1].start(sandbox[1])
    try:
        await done
    except BaseException:
        for transport in (client[0], sandbox[0]):
            transport.abort()
        raise
