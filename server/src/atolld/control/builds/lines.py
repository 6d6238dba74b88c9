"""Output in pieces as lines: bounded, without what must not be seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

MAX_LINE = 4096
LAST_LINES = 20
HIDDEN = "***"
_MIN_SECRET = 4


class Lines:
    """Splits what a command writes. `tell` gets each line, at most 4,096 characters of it; `last`: the last 20.

    A carriage return begins a line anew, as on a terminal, so of a progress bar its last state is told. `secrets` are
    replaced where they stand in one line; very short ones are left, they would be found everywhere.
    """

    def __init__(self, tell: Callable[[str], None], secrets: Collection[str] = ()) -> None:
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._tell = tell
        hidden = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= _MIN_SECRET}
        self._secrets = sorted(hidden, key=len, reverse=True)
        self._partial: dict[str, bytearray] = {}

    def feed(self, stream: str, data: bytes) -> None:
        """What came on `stream`, in any pieces."""
        partial = self._partial.setdefault(stream, bytearray())
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(partial, piece)
            self._emit(bytes(partial))
            partial.clear()
        self._add(partial, rest)

    def end(self) -> None:
        """Tell what was left without an end of line."""
        for partial in self._partial.values():
            if partial:
                self._emit(bytes(partial))
        self._partial.clear()

    def _add(self, partial: bytearray, piece: bytes) -> None:
        cut = piece.rstrip(b"\r").rfind(b"\r")
        if cut >= 0:
            partial.clear()
            piece = piece[cut + 1 :]
        elif partial.endswith(b"\r") and piece.strip(b"\r"):
            partial.clear()
        # Four bytes a character at most; more of a line is not kept, so that one without an end costs nothing.
        partial += piece[: max(0, 4 * MAX_LINE - len(partial))]

    def _emit(self, raw: bytes) -> None:
        text = raw.rstrip(b"\r").decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = "".join(one if one.isprintable() or one in "\t\x1b" else "\ufffd" for one in text[:MAX_LINE])
        self.last.append(text)
        self._tell(text)
