# Generated from `src/atoll/_async/watch.py` by `scripts/unasync.py`: change that, not this.
"""Changes of a directory, as they happen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from atoll import _threads as backend
from atoll import _retry
from atoll._sync.guest import Guest, MessageStream
from atoll._envelope import StreamBroken
from atoll._errors import AtollError, ConnectionFailed
from atoll._models import WatchEvent


class Watch:
    """Iterating over it waits for changes; closing it, or leaving it as a context manager, ends the iteration.

    When the connection breaks, it is made again, and an event of type "gap" says that changes may be missing.
    """

    def __init__(self, guest: Guest, request: Mapping[str, object], user: str | None) -> None:
        self._guest = guest
        self._request = request
        self._user = user
        self._stream: MessageStream | None = None
        self._pending: deque[WatchEvent] = deque()
        self._closed = False

    def open(self) -> None:
        """For the SDK itself: begin to watch, and wait until the agent does."""
        try:
            self._open()
        except StreamBroken as broken:
            raise ConnectionFailed(f"the connection broke before the watch began: {broken}") from broken

    def close(self) -> None:
        """End the watch. Idempotent."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> WatchEvent:
        while not self._pending:
            if self._closed:
                raise StopIteration
            self._read_more()
        return self._pending.popleft()

    def _open(self) -> None:
        stream = self._guest.stream("filesystem.Filesystem/WatchDir", self._request, user=self._user)
        self._stream = stream
        # The first message says that the watch is set: changes from now on are told.
        stream.next()

    def _read_more(self) -> None:
        assert self._stream is not None
        try:
            message = self._stream.next()
        except StreamBroken as broken:
            if not self._closed:
                self._reopen(str(broken))
            return
        if message is None:
            self._closed = True
            return
        change = message.get("filesystem")
        if isinstance(change, dict) and (event := WatchEvent.from_json(change)) is not None:
            self._pending.append(event)

    def _reopen(self, cause: str) -> None:
        give_up_at = time.monotonic() + self._guest.http.config.resume_timeout_s
        attempt = 0
        while True:
            try:
                self._open()
                break
            except StreamBroken:
                pass
            except AtollError as error:
                if not _retry.may_come_back(error):
                    raise
            if time.monotonic() > give_up_at:
                raise ConnectionFailed(f"the watch's connection broke ({cause}) and could not be made again")
            backend.sleep(_retry.pause_s(attempt))
            attempt += 1
        self._pending.append(WatchEvent("gap", ""))
