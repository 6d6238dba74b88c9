"""Holds a number in memory and tells it over HTTP; runs inside a sandbox.

GET / tells what it holds; PUT /<n> sets the number and tells the same. Connections are kept alive.
"""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8100
held = {"value": 0, "ticks": 0}


class Handler(BaseHTTPRequestHandler):
    """Answers with all that is held."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._tell()

    def do_PUT(self) -> None:
        held["value"] = int(self.path.strip("/"))
        self._tell()

    def _tell(self) -> None:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        told = {**held, "pid": os.getpid(), "boot_id": boot_id, "envs": dict(os.environ)}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing reads it."""


def tick() -> None:
    while True:
        time.sleep(0.05)
        held["ticks"] += 1


if __name__ == "__main__":
    threading.Thread(target=tick, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
