"""Which sandboxes are in use, and since when the others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atolld.foundation.ids import SandboxId


class _Use:
    """The exchanges in flight of one sandbox, and when the last one ended."""

    __slots__ = ("count", "ended_at")

    def __init__(self) -> None:
        self.count = 0
        self.ended_at: float | None = None


class Activity:
    """Counts exchanges that are in flight, for as long as they last: streams and upgraded connections as well.

    A stream counts though nothing passes on it. Times are seconds of `monotonic`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._uses: dict[SandboxId, _Use] = {}

    @contextmanager
    def in_flight(self, id: SandboxId) -> Iterator[None]:
        """For as long as it is entered, one more exchange of the sandbox is in flight."""
        use = self._uses.setdefault(id, _Use())
        use.count += 1
        try:
            yield
        finally:
            # After `forget` this is nobody's record any more, and a new one of the same id is not touched.
            use.count -= 1
            use.ended_at = self._monotonic()

    def busy(self, id: SandboxId) -> bool:
        """Whether an exchange is in flight."""
        use = self._uses.get(id)
        return use is not None and use.count > 0

    def idle_since(self, id: SandboxId) -> float | None:
        """When the last exchange ended, or `touch` was called after it; None: one is in flight, or there was none."""
        use = self._uses.get(id)
        return use.ended_at if use is not None and use.count == 0 else None

    def touch(self, id: SandboxId) -> None:
        """It was used just now in another way than by an exchange."""
        self._uses.setdefault(id, _Use()).ended_at = self._monotonic()

    def forget(self, id: SandboxId) -> None:
        """The sandbox has ended; to be called for each, or its record stays."""
        self._uses.pop(id, None)
