"""When the sandbox is given to somebody: the guest agent then writes who it is now into files."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from atoll_interpreter.aio import log

_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_READ_BYTES = 64 * 1024


class Claims:
    """Calls `on_claim` in the event loop after a file in `directory` was written; several at once count as one.

    It takes no time while nothing is written, and goes on in a sandbox that starts from this one's memory.
    """

    def __init__(self, directory: Path, on_claim: Callable[[], None]) -> None:
        self._directory = directory
        self._on_claim = on_claim
        self._descriptor = -1

    def start(self) -> None:
        """Begin; without the directory nothing is ever told."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        wanted = ctypes.c_uint32(_IN_CLOSE_WRITE | _IN_MOVED_TO)
        if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(self._directory), wanted) < 0:
            log.info("%s is not watched: %s", self._directory, os.strerror(ctypes.get_errno()))
            if descriptor >= 0:
                os.close(descriptor)
            return
        self._descriptor = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def stop(self) -> None:
        """End; nothing when it has not begun."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _read(self) -> None:
        try:
            os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        self._on_claim()
