"""What code writes: sent by whoever flushes it, and what other programs wrote is waited for."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import threading
from contextlib import AbstractContextManager
from typing import Any

from ipykernel.iostream import OutStream

from atoll_line import Line, LineSession

_READ_BYTES = 64 * 1024


class LineStream(OutStream):
    """Takes the place of ipykernel's, which has a thread of its own send it and waits for that."""

    session: Any
    pub_thread: Any
    _fid: int | None

    def __init__(self, *args: Any, **options: Any) -> None:
        self._flushes = 0
        self._sending = threading.RLock()
        self._reading = threading.RLock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        os.register_at_fork(after_in_child=self._in_child)

    def flush(self) -> None:
        """Send what is there; it is sent when this returns."""
        self._flush()

    def _flush(self) -> None:
        # Nobody else's output may come between taking it from the buffer and sending it.
        with self._uninterrupted(), self._sending:
            self._flushes += 1
            super()._flush()  # type: ignore[no-untyped-call]

    def _schedule_flush(self) -> None:
        # As ipykernel's; but what was flushed meanwhile is not flushed again, in the middle of what comes next.
        if self._flush_pending:
            return
        self._flush_pending = True
        flushes = self._flushes

        def flush() -> None:
            if self._flushes == flushes:
                self._flush()

        self.pub_thread.schedule(lambda: self._io_loop.call_later(self.flush_interval, flush))

    def drain(self) -> None:
        """Take over what programs that code started have written to the descriptor by now."""
        if self._fid is None:
            return
        with self._reading:
            while self._take():
                pass

    def _watch_pipe_fd(self) -> None:
        # The thread that waits for what other programs write. Whoever reads it first passes it on.
        assert self._fid is not None
        os.set_blocking(self._fid, False)
        try:
            while self._should_watch:
                select.select([self._fid], [], [])
                with self._reading:
                    if self._take() is None:
                        return
        except (OSError, ValueError):
            return

    def _take(self) -> bool | None:
        """Whether there was something; None at the end."""
        assert self._fid is not None
        try:
            piece = os.read(self._fid, _READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            return None
        self.write(self._decoder.decode(piece))
        return True

    def _uninterrupted(self) -> AbstractContextManager[None]:
        line: Line | None = self.session.line if isinstance(self.session, LineSession) else None
        return contextlib.nullcontext() if line is None else line.uninterrupted()

    def _in_child(self) -> None:
        self._sending = threading.RLock()
        self._reading = threading.RLock()
        self._buffer_lock = threading.RLock()
