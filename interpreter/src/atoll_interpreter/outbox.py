"""Outputs on their way to a client: bounded by what they take, not by how many they are."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque

from atoll_interpreter.outputs import Output

FULL_BYTES = 16 * 1024 * 1024
RESUME_BYTES = 4 * 1024 * 1024


class Outbox:
    """Lines of JSON, in order. `put` never waits; whoever fills it asks `full` and stops the source meanwhile."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._abandoned = False
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def full(self) -> bool:
        """Whether the source should stop until there is room."""
        return self._bytes > FULL_BYTES and not self._abandoned

    @property
    def abandoned(self) -> bool:
        """Whether the client has gone before the end."""
        return self._abandoned

    def put(self, output: Output) -> None:
        """Add one line; dropped once the client has gone."""
        if self._abandoned or self._closed:
            return
        raw = _encode(output)
        self._lines.append(raw)
        self._bytes += len(raw)
        if self.full:
            self._room.clear()
        self._changed.set()

    def close(self) -> None:
        """Nothing follows."""
        self._closed = True
        self._changed.set()

    def abandon(self) -> None:
        """The client has gone: what is here is dropped, and what comes. Nothing after the end."""
        if self._closed:
            return
        self._abandoned = True
        self._gone.set()
        self._lines.clear()
        self._bytes = 0
        self._room.set()
        self._changed.set()

    async def until_abandoned(self) -> None:
        """Wait until the client goes."""
        await self._gone.wait()

    async def room(self) -> None:
        """Wait until the client has read enough of it."""
        await self._room.wait()

    async def take(self, timeout_s: float) -> bytes | None:
        """All lines that are there, as soon as there is one; empty after `timeout_s` without any; None at the end."""
        if not self._lines and not self._closed:
            try:
                async with asyncio.timeout(timeout_s):
                    while not self._lines and not self._closed:
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                return b""
            # What came together goes together: whoever filled it has more to say before it gives way.
            await asyncio.sleep(0)
        if not self._lines:
            return None
        taken = bytearray()
        while self._lines and len(taken) < 1024 * 1024:
            taken += self._lines.popleft()
        self._bytes -= len(taken)
        if self._bytes < RESUME_BYTES:
            self._room.set()
        return bytes(taken)


def _encode(output: Output) -> bytes:
    try:
        line = json.dumps(output, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        line = json.dumps(_without_nan(output), ensure_ascii=False, default=str)
    return line.encode("utf-8", "replace") + b"\n"


def _without_nan(value: object) -> object:
    # JSON knows no infinite numbers, and not every client's parser does.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
