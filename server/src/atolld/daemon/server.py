"""uvicorn without its own main loop: no tick, no signals of its own, a stop that is quick."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn

from atolld.api.entry import Entry
from atolld.daemon.settings import Settings
from atolld.foundation.errors import FailedPrecondition
from atolld.gateway.server import EdgeProtocol


class Server(uvicorn.Server):
    """Serves until `stop` is called. `cut_streams` is called when the grace for requests in flight is over."""

    def __init__(self, config: uvicorn.Config, cut_streams: Callable[[], None], grace_s: float) -> None:
        super().__init__(config)
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
        self.listening.set()

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
    app: Entry, protocol: type[EdgeProtocol], settings: Settings, cut_streams: Callable[[], None]
) -> Server:
    """The HTTP server for `app`."""
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
        backlog=2048,
    )
    return Server(config, cut_streams, settings.stop_grace_s)


def listen(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises FailedPrecondition when the address is taken or not this machine's, saying what to change.
    """
    host, port = settings.bind_host, settings.bind_port
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot listen on {host}:{port}: {error.strerror or error}; end what uses it or set bind_port"
        ) from None
    listener.setblocking(False)
    return listener
