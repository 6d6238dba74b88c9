"""uvicorn without its own main loop: no tick, no signals of its own, a stop that is quick."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn

from atolld.api.entry import Entry
from atolld.daemon.settings import Settings
from atolld.foundation.errors import FailedPrecondition
from atolld.gateway.secure import SecureProtocol
from atolld.gateway.server import EdgeProtocol

BACKLOG = 2048
HANDSHAKE_S = 10.0
GOODBYE_S = 2.0


class Server(uvicorn.Server):
    """Serves until `stop` is called. `cut_streams` is called when the grace for requests in flight is over.

    `secure`: a listening socket that TLS is spoken on, with its context.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        cut_streams: Callable[[], None],
        grace_s: float,
        secure: tuple[socket.socket, ssl.SSLContext] | None = None,
    ) -> None:
        super().__init__(config)
        self._secure = secure
        self.listening = asyncio.Event()
        self._stop = asyncio.Event()
        self._cut_streams = cut_streams
        self._grace_s = grace_s

    def stop(self) -> None:
        """Stop accepting, let requests in flight end within the grace, then return from `serve`."""
        self.should_exit = True
        self._stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._secure is not None:
            listener, context = self._secure
            self.servers.append(
                await asyncio.get_running_loop().create_server(
                    self._secure_protocol,
                    sock=listener,
                    ssl=context,
                    backlog=BACKLOG,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    # A client that does not say goodbye is not waited for.
                    ssl_shutdown_timeout=GOODBYE_S,
                )
            )
        self.listening.set()

    def _secure_protocol(self) -> asyncio.Protocol:
        edge = self.config.http_protocol_class
        assert issubclass(edge, EdgeProtocol)
        return SecureProtocol(self.config, self.server_state, edge)

    async def main_loop(self) -> None:
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=self._grace_s)
        self._cut_streams()
        left = set(self.server_state.tasks)
        if left:
            _, stuck = await asyncio.wait(left, timeout=0.5)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck, timeout=0.5)
        for connection in list(self.server_state.connections):
            connection.transport.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The daemon's own handlers decide what a signal means.
        yield


def make_server(
    app: Entry,
    protocol: type[EdgeProtocol],
    settings: Settings,
    cut_streams: Callable[[], None],
    secure: tuple[socket.socket, ssl.SSLContext] | None = None,
) -> Server:
    """The HTTP server for `app`; `secure`: see `Server`."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        backlog=BACKLOG,
    )
    return Server(config, cut_streams, settings.stop_grace_s, secure)


def listen(settings: Settings, port: int | None = None, setting: str = "bind_port") -> socket.socket:
    """The listening socket, on `port` (default: `bind_port`); `setting` names the port in errors.

    Raises FailedPrecondition when the address is taken or not this machine's, saying what to change.
    """
    host, port = settings.bind_host, settings.bind_port if port is None else port
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot listen on {host}:{port}: {error.strerror or error}; end what uses it or set {setting}"
        ) from None
    listener.setblocking(False)
    return listener
