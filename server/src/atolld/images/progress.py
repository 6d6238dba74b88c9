"""How a long build tells where it stands, and two ways to show it to people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from atolld.foundation.units import format_seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a build.

    `phase`: short and stable within a build (`download`, `unpack`, ...). `percent`: of the whole build, 0 to 100, never
    falling; None where it cannot be told. `message`: what is going on, for people, one line.
    """

    phase: str
    percent: float | None
    message: str


_PLAIN_INTERVAL_S = 10.0

ProgressCallback = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """For callers that do not show it."""


class ProgressPrinter:
    """Shows progress on `stream`: one line rewritten in place on a terminal, else plain lines.

    A plain line comes with each new phase, and every ten seconds within a long one.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._live = stream.isatty()
        self._start = clock()
        self._told = self._start
        self._phase = ""
        self._open_line = False

    def __call__(self, progress: Progress) -> None:
        """Show one step."""
        percent = "    " if progress.percent is None else f"{progress.percent:3.0f}%"
        elapsed = format_seconds(self._clock() - self._start)
        line = f"  {percent} {progress.message} ({elapsed})"
        if self._live:
            # Cut to 100 columns: a wrapped line could not be rewritten in place.
            self._stream.write("\r\x1b[2K" + line[:100])
            self._open_line = True
        elif progress.phase != self._phase or self._clock() - self._told >= _PLAIN_INTERVAL_S:
            self._stream.write(line + "\n")
            self._told = self._clock()
        self._phase = progress.phase
        self._stream.flush()

    def close(self) -> None:
        """End the line that was being rewritten, so that what follows starts on its own."""
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False
