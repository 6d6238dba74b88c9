"""Events gathered into a result, within a bound of memory."""

from __future__ import annotations

import time

from atoll._errors import LimitExceeded
from atoll._events import Event, Exit, Gap, PtyOutput, Result, Stderr, Stdout

MAX_COLLECTED_BYTES = 256 * 1024 * 1024


class Collector:
    """Gathers one command's events; `began` is the monotonic time at which it was asked for.

    `lost_bytes`: output that could not be delivered, None when its size is unknown.
    """

    def __init__(self, label: str, began: float) -> None:
        self._label = label
        self._began = began
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._total_bytes = 0
        self.lost_bytes: int | None = 0

    def add(self, event: Event) -> None:
        """Take one event in. Raises LimitExceeded past MAX_COLLECTED_BYTES."""
        if isinstance(event, (Stdout, PtyOutput)):
            self._stdout.append(event.data)
            self._count(len(event.data))
        elif isinstance(event, Stderr):
            self._stderr.append(event.data)
            self._count(len(event.data))
        elif isinstance(event, Gap):
            known = self.lost_bytes is not None and event.lost_bytes is not None
            self.lost_bytes = (self.lost_bytes or 0) + (event.lost_bytes or 0) if known else None

    def result(self, exit: Exit | None) -> Result:
        """What was gathered; without an `Exit` the exit code is -1."""
        return Result(
            stdout_bytes=b"".join(self._stdout),
            stderr_bytes=b"".join(self._stderr),
            exit_code=-1 if exit is None else exit.exit_code,
            error="it did not end" if exit is None else exit.error,
            duration_s=time.monotonic() - self._began,
        )

    def lost_message(self) -> str:
        """The sentence for OutputLost."""
        size = "an unknown number of" if self.lost_bytes is None else str(self.lost_bytes)
        return f"{self._label!r} ran to its end, but {size} bytes of its output were lost while the connection was away"

    def _count(self, size: int) -> None:
        self._total_bytes += size
        if self._total_bytes > MAX_COLLECTED_BYTES:
            raise LimitExceeded(
                f"{self._label!r} printed more than {MAX_COLLECTED_BYTES} bytes; use start() and read its events"
            )
