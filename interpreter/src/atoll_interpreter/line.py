"""The line to a kernel of our own: one socket for executions and all that is said about them, past Jupyter's."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Callable, Mapping
from typing import Any, cast

from atoll_interpreter.aio import log

# How the kernel is told which descriptor its end is.
VARIABLE = "ATOLL_KERNEL_LINE"
# What a kernel's specification says when it takes one.
METADATA = "atoll_line"


class Line(asyncio.Protocol):
    """The server's end: a JSON object a line in either direction. `on_message` is called for each that comes."""

    def __init__(self, on_message: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []

    @classmethod
    async def open(cls, end: socket.socket, on_message: Callable[[Mapping[str, Any]], None]) -> Line:
        """Over `end`, which is closed with it."""
        _, line = await asyncio.get_running_loop().create_unix_connection(lambda: cls(on_message), sock=end)
        return line

    def ask(self, content: Mapping[str, object], metadata: Mapping[str, object]) -> str:
        """Ask for an execution; what is said about it names the id that this returns."""
        identifier = uuid.uuid4().hex
        request = {"msg_id": identifier, "content": content, "metadata": metadata}
        if self._transport is not None:
            self._transport.write(json.dumps(request).encode() + b"\n")
        return identifier

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Nothing comes any more."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio's protocols."""
        # Not every loop's transports say of themselves what they are.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio's protocols."""
        first, *more = data.split(b"\n")
        self._parts.append(first)
        for start in more:
            self._take(b"".join(self._parts))
            self._parts = [start]

    def _take(self, line: bytes) -> None:
        if not line or self._transport is None:
            return
        try:
            message = json.loads(line)
        except ValueError:
            # Of a process that was forked from the kernel and killed while it wrote.
            log.warning("a message of %d bytes from a kernel cannot be read", len(line))
            return
        self._on_message(message)
