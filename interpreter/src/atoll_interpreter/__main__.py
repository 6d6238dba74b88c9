"""`python -m atoll_interpreter`: the server, with what its environment says (see `settings`)."""

from __future__ import annotations

import logging
import socket

import uvicorn

from atoll_interpreter.app import Interpreter
from atoll_interpreter.settings import Settings


def main() -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = Settings.of_environment()
    config = uvicorn.Config(
        Interpreter(settings).app(),
        host=settings.host,
        port=settings.port,
        http="h11",
        ws="none",
        access_log=False,
        log_level="warning",
        # Clients keep connections for minutes; a shorter time would race with their next request.
        timeout_keep_alive=640,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(None if settings.socket is None else [_listener(settings.socket)])


def _listener(descriptor: int) -> socket.socket:
    # By its protocol: what is sent in two pieces then goes out at once, and does not wait for the other side, which may
    # take 40 ms to say that it has the first. uvicorn's own way (`fd`) takes it for a socket in a file.
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)


if __name__ == "__main__":
    main()
