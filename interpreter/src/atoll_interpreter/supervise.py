"""`python -m atoll_interpreter.supervise`: keeps a server running, and its port open while one takes the other's place.

A request that comes meanwhile waits for the next server instead of being refused. Kernels end with their server.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from types import FrameType

from atoll_interpreter.settings import Settings

BACKLOG = 128
# A server that ends at once again and again is not started more often than this.
PAUSE_S = 0.5


def main() -> None:
    """Run servers until a signal comes."""
    settings = Settings.of_environment()
    listener = socket.create_server((settings.host, settings.port), backlog=BACKLOG, reuse_port=False)
    listener.set_inheritable(True)
    environ = {**os.environ, "ATOLL_INTERPRETER_SOCKET": str(listener.fileno())}
    running = 0

    def end(number: int, frame: FrameType | None) -> None:
        if running:
            os.kill(running, signal.SIGTERM)
            os.waitpid(running, 0)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    command = [sys.executable, "-m", "atoll_interpreter"]
    while True:
        began = time.monotonic()
        # Not a copy of this process that then starts another: what is copied would have to be kept.
        running = os.posix_spawn(sys.executable, command, environ, setsigdef=[signal.SIGHUP, signal.SIGTERM])
        os.waitpid(running, 0)
        running = 0
        time.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
