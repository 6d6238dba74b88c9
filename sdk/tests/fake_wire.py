"""What the parts of the fake daemon are made of: scripts of commands, requests as they arrived, answers and streams."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdk.tests.fake_daemon import FakeDaemon


@dataclass
class Script:
    """What a command does. `cuts`: the connection is dropped after so many bytes of output, once for each entry.

    `ring_from`: the oldest byte that a replay can still give. `echo_stdin`: repeats its input until that ends.
    `refuse`: the Connect error that its start answers with. `hold`: it prints nothing more until the event is set.
    `hold_start`: its start is not told until the event is set.
    `frames`: raw bytes sent in place of everything after the start event.
    """

    output: list[tuple[str, bytes]] = field(default_factory=list)
    exit_code: int = 0
    status: str | None = None
    cuts: list[int] = field(default_factory=list)
    ring_from: int = 0
    echo_stdin: bool = False
    refuse: dict[str, str] | None = None
    end_error: dict[str, str] | None = None
    hold: threading.Event | None = None
    hold_start: threading.Event | None = None
    cut_before_start: bool = False
    frames: bytes | None = None


@dataclass
class FakeProcess:
    """A script that was started."""

    pid: int
    tag: str
    start: dict[str, Any]
    script: Script
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: threading.Event = field(default_factory=threading.Event)
    killed: threading.Event = field(default_factory=threading.Event)
    signals: list[str] = field(default_factory=list)
    sizes: list[dict[str, int]] = field(default_factory=list)

    def output(self) -> Iterator[tuple[str, bytes]]:
        yield from self.script.output
        if self.script.echo_stdin:
            self.stdin_closed.wait(10)
            yield ("stdout", bytes(self.stdin))


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Dropped(Exception):
    """The script says that the connection breaks here."""


class Wire(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    daemon: FakeDaemon
    seen: Seen

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"content-type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._json({"error": {"code": code, "message": message, "request_id": "req_1"}}, status)

    def _agent_refuse(self, status: int, code: str, message: str) -> None:
        self._json({"code": code, "message": message}, status)

    def _begin_stream(self, headers: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/connect+json")
        self.send_header("transfer-encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _frame(self, message: dict[str, Any], flags: int = 0) -> None:
        payload = json.dumps(message).encode()
        self._chunk(struct.pack(">BI", flags, len(payload)) + payload)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


def unframe(body: bytes) -> dict[str, Any]:
    flags, length = struct.unpack(">BI", body[:5])
    assert flags == 0
    assert length == len(body) - 5
    message = json.loads(body[5:])
    assert isinstance(message, dict)
    return message
