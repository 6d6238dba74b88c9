"""The line: one socket between the server and this kernel, for executions and all that they say.

Jupyter's own sockets pass each message through two threads on either side, and threads that wake up are what is slow
in a sandbox: an execution over them takes three times as long. They stay open for everything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jupyter_client.jsonutil import json_clean, json_default
from jupyter_client.session import Session

# How the descriptor of its end is told to this process.
VARIABLE = "ATOLL_KERNEL_LINE"
# As the session of requests that came over the line: what is said about them goes back over it.
NAME = "atoll-line"
_READ_BYTES = 256 * 1024


class Line:
    """This process's end of it: a JSON object a line in either direction. Threads and forked processes may send."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        # Not for the programs that code starts.
        self._socket.set_inheritable(False)
        self._lock = threading.RLock()
        self._main = threading.main_thread().ident
        self._held = b""
        self._read = b""
        # Held by a forked process as long as it sends; None while there is no such process.
        self._between: int | None = None
        self._masked = 0
        self._interrupted = False
        os.register_at_fork(before=self._share, after_in_child=self._in_child)

    def fileno(self) -> int:
        """For an event loop."""
        return self._socket.fileno()

    def receive(self) -> Iterator[dict[str, Any]]:
        """What has come; call it when there is something. Raises EOFError: the server is gone."""
        piece = self._socket.recv(_READ_BYTES)
        if not piece:
            raise EOFError
        *lines, self._read = (self._read + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def send(self, message: dict[str, Any], *, hold: bool = False) -> None:
        """Send one message; with `hold` not before the next one. Waits for a server that does not read."""
        try:
            raw = json.dumps(message, default=json_default, allow_nan=False)
        except ValueError:
            raw = json.dumps(json_clean(message), default=json_default)
        with self.uninterrupted(), self._lock:
            self._held += raw.encode() + b"\n"
            if hold:
                return
            ready, self._held = self._held, b""
            if self._between is None:
                self._socket.sendall(ready)
                return
            fcntl.lockf(self._between, fcntl.LOCK_EX)
            try:
                # A process may have been killed in the middle of a line.
                self._socket.sendall(b"\n" + ready)
            finally:
                fcntl.lockf(self._between, fcntl.LOCK_UN)

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Keep an interrupt back until the end of this: half a message would be read as no message."""
        if threading.get_ident() != self._main:
            yield
            return
        self._masked += 1
        try:
            yield
        finally:
            self._masked -= 1
            if self._interrupted and not self._masked:
                self._interrupted = False
                raise KeyboardInterrupt

    def on_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGINT, as Python's own handler does."""
        if self._masked:
            self._interrupted = True
            return
        signal.default_int_handler(number, frame)

    def _share(self) -> None:
        if self._between is None:
            self._between = os.memfd_create("atoll-line")

    def _in_child(self) -> None:
        self._lock = threading.RLock()
        self._held = b""
        self._main = threading.get_ident()


class LineSession(Session):
    """A session whose messages about what came over the line go back over it. `held`: kinds that wait for the next."""

    line: Line | None = None
    held: tuple[str, ...] = ()

    def send(
        self, stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, *rest: Any, **more: Any
    ) -> Any:
        """As Jupyter's does."""
        if self.line is None:
            return super().send(stream, msg_or_type, content, parent, *rest, **more)
        if isinstance(msg_or_type, str):
            message = self.msg(msg_or_type, content, parent)
        else:
            message = msg_or_type
        about = message["parent_header"]
        if about.get("session") != NAME:
            return super().send(stream, msg_or_type, content, parent, *rest, **more)
        header = message["header"]
        kind = header["msg_type"]
        told = {
            "header": {"msg_type": kind, "date": header["date"].isoformat()},
            "parent_header": {"msg_id": about["msg_id"]},
            "content": message["content"],
        }
        self.line.send(told, hold=kind in self.held)
        return message
