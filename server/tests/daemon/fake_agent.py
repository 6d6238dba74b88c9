#!/usr/bin/env python3
"""The least an agent must do: answer `/init` and `/health`, and echo everything else."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    token = None

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if self.path == "/init":
            Handler.token = json.loads(body).get("accessToken", Handler.token)
            self._answer(204, b"")
        elif self.path == "/die":
            os._exit(3)
        elif self.path.startswith("/write/"):
            try:
                with open(self.path.removeprefix("/write"), "x"):
                    self._answer(200, b"written")
            except OSError as error:
                self._answer(200, type(error).__name__.encode())
        elif self.headers.get("x-access-token") != Handler.token:
            self._answer(401, b"{}")
        else:
            told = {"path": self.path, "headers": dict(self.headers.items()), "body": body.decode()}
            self._answer(200, json.dumps(told).encode())

    do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        sys.stderr.write(json.dumps({"level": "info", "message": format % args}) + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("atoll-agent 0.0.0 generation 0 envd 0.0.0\n")
    else:
        ThreadingHTTPServer(("127.0.0.1", int(os.environ["ATOLL_AGENT_PORT"])), Handler).serve_forever()
