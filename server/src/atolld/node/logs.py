"""Reading a sandbox's log. The guest writes it, so it is untrusted and may be of any size its disk allows."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_tail(path: Path, limit_bytes: int) -> bytes:
    """The last `limit_bytes` of the regular file `path`, cut at a line's beginning; empty when there is no file.

    Links are not followed and anything but a regular file reads as empty.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    with os.fdopen(handle, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return b""
        start = max(0, found.st_size - limit_bytes)
        tail = os.pread(file.fileno(), limit_bytes, start)
    if start == 0:
        return tail
    _, newline, rest = tail.partition(b"\n")
    return rest if newline else tail
