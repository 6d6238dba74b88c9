"""Open connections to sandboxes: many short attempts, because a sandbox may lose the first packet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from atolld.foundation.errors import GuestUnreachable
from atolld.gateway.upstream import UpstreamConnection

# The first SYN into a gVisor sandbox can be lost, and all are while its memory is saved, which takes 0.1 s and more;
# TCP's own retry comes only after a second. In all about 4 s.
CONNECT_TIMEOUTS_S = (0.05, 0.05, 0.1, 0.1, 0.2, 0.5, 1.0, 2.0)

# A sandbox that was torn away leaves no FIN behind; within about 20 s an idle stream to it is noticed.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 2))


class Refused(Exception):
    """Nothing listens there."""


Lost = Callable[[UpstreamConnection], None]


async def dial(address: str, port: int, on_lost: Lost | None = None) -> UpstreamConnection:
    """A fresh connection to `address:port`.

    Raises Refused when nothing listens there, GuestUnreachable when there is no answer within about 4 s.
    """
    loop = asyncio.get_running_loop()
    for timeout_s in CONNECT_TIMEOUTS_S:
        try:
            async with asyncio.timeout(timeout_s):
                transport, connection = await loop.create_connection(lambda: UpstreamConnection(on_lost), address, port)
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            raise Refused(f"{address}:{port}") from None
        except OSError as error:
            raise GuestUnreachable(f"the sandbox cannot be reached: {error.strerror or error}") from None
        _keep_alive(transport)
        return connection
    raise GuestUnreachable(f"the sandbox did not accept a connection within {sum(CONNECT_TIMEOUTS_S):g} s")


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        raw.setsockopt(socket.IPPROTO_TCP, option, value)
