"""Changes of a directory, as they happen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from atoll import _aio as backend
from atoll import _retry
from atoll._async.guest import AsyncGuest, AsyncMessageStream
from atoll._envelope import StreamBroken
from atoll._errors import AtollError, ConnectionFailed
from atoll._models import WatchEvent


class AsyncWatch:
    """Iterating over it waits for changes; closing it, or leaving it as a context manager, ends the iteration.

    When the connection breaks, it is made again, and an event of type "gap" says that changes may be missing.
    """

    def __init__(self, guest: AsyncGuest, request: Mapping[str, object], user: str | None) -> None:
        self._guest = guest
        self._request = request
        self._user = user
        self._stream: AsyncMessageStream | None = None
        self._pending: deque[WatchEvent] = deque()
        self._closed = False

    async def open(self) -> None:
        """For the SDK itself: begin to watch, and wait until the agent does."""
        try:
            await self._open()
        except StreamBroken as broken:
            raise ConnectionFailed(f"the connection broke before the watch began: {broken}") from broken

    async def close(self) -> None:
        """End the watch. Idempotent."""
        self._closed = True
        if self._stream is not None:
            await self._stream.close()

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            await self._read_more()
        return self._pending.popleft()

    async def _open(self) -> None:
        stream = await self._guest.stream("filesystem.Filesystem/WatchDir", self._request, user=self._user)
        self._stream = stream
        # The first message says that the watch is set: changes from now on are told.
        await stream.next()

    async def _read_more(self) -> None:
        assert self._stream is not None
        try:
            message = await self._stream.next()
        except StreamBroken as broken:
            if not self._closed:
                await self._reopen(str(broken))
            return
        if message is None:
            self._closed = True
            return
        change = message.get("filesystem")
        if isinstance(change, dict) and (event := WatchEvent.from_json(change)) is not None:
            self._pending.append(event)

    async def _reopen(self, cause: str) -> None:
        give_up_at = time.monotonic() + self._guest.http.config.resume_timeout_s
        attempt = 0
        while True:
            try:
                await self._open()
                break
            except StreamBroken:
                pass
            except AtollError as error:
                if not _retry.may_come_back(error):
                    raise
            if time.monotonic() > give_up_at:
                raise ConnectionFailed(f"the watch's connection broke ({cause}) and could not be made again")
            await backend.sleep(_retry.pause_s(attempt))
            attempt += 1
        self._pending.append(WatchEvent("gap", ""))
