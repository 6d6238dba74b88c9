from __future__ import annotations

import asyncio
import socket

import pytest

from atolld.foundation.errors import GuestUnreachable
from atolld.gateway import dial as module
from atolld.gateway.dial import Refused, dial


async def test_a_connection_notices_a_sandbox_that_vanished() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    connection = await dial("127.0.0.1", server.sockets[0].getsockname()[1])
    transport, _, _ = connection.detach()
    raw = transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    connection.abort()
    server.close()
    await server.wait_closed()


async def test_nothing_listens(free_port: int) -> None:
    with pytest.raises(Refused):
        await dial("127.0.0.1", free_port)


async def test_a_lost_packet_is_tried_again_and_in_the_end_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    class Loop:
        async def create_connection(self, *_: object) -> None:
            attempts.append(0)
            await asyncio.Event().wait()

    monkeypatch.setattr(module, "CONNECT_TIMEOUTS_S", (0.001, 0.001, 0.001))
    monkeypatch.setattr("atolld.gateway.dial.asyncio.get_running_loop", Loop)
    with pytest.raises(GuestUnreachable, match="did not accept"):
        await dial("203.0.113.1", 1)
    assert len(attempts) == 3


async def test_a_machine_without_a_route() -> None:
    with pytest.raises(GuestUnreachable, match="cannot be reached"):
        await dial("255.255.255.255", 1)
