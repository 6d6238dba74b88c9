"""Where the time of a launch went."""

from __future__ import annotations

from atolld.foundation.clock import Clock


class Phases:
    """Seconds by phase, in the order they ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        """The phase `name` ends now; it began when the one before it ended."""
        now = self._clock.monotonic()
        self.seconds[name] = now - self._last
        self._last = now
