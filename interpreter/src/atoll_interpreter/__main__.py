"""`python -m atoll_interpreter`: the server, with what its environment says (see `settings`)."""

from __future__ import annotations

import logging

import uvicorn

from atoll_interpreter.app import Interpreter
from atoll_interpreter.settings import Settings


def main() -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = Settings.of_environment()
    uvicorn.run(
        Interpreter(settings).app(),
        host=settings.host,
        port=settings.port,
        fd=settings.socket,
        http="h11",
        ws="none",
        access_log=False,
        log_level="warning",
        # Clients keep connections for minutes; a shorter time would race with their next request.
        timeout_keep_alive=640,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
