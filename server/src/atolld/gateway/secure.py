"""After a TLS handshake: HTTP/2 or HTTP/1.1, as the client and the daemon agreed."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from atolld.gateway.h2 import Http2Protocol
from atolld.gateway.server import EdgeProtocol

# What may be agreed on, the best first.
ALPN = ("h2", "http/1.1")


class SecureProtocol(asyncio.Protocol):
    """Hands the connection to the protocol that was agreed on; `edge` is that of HTTP/1.1."""

    def __init__(self, config: Config, server_state: ServerState, edge: type[EdgeProtocol]) -> None:
        self._config = config
        self._state = server_state
        self._edge = edge

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        protocol: Http2Protocol | EdgeProtocol
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            protocol = Http2Protocol(self._config, self._state, self._edge.limits)
        else:
            protocol = self._edge(self._config, self._state, {})
        transport.set_protocol(protocol)
        protocol.connection_made(cast(asyncio.Transport, transport))
