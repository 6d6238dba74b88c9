"""A lock between processes that ends with its holder."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

_POLL_S = 0.2


def exclusive(path: Path, on_wait: Callable[[], None] | None = None) -> AbstractAsyncContextManager[None]:
    """Hold the lock file `path` (made when missing); the kernel frees it when the holder dies, however it dies.

    `on_wait` is called once when somebody else holds it. Waits without limit: cancel to give up.
    """
    return _hold(path, fcntl.LOCK_EX, on_wait)


def shared(path: Path, on_wait: Callable[[], None] | None = None) -> AbstractAsyncContextManager[None]:
    """The same, together with others that hold it `shared`."""
    return _hold(path, fcntl.LOCK_SH, on_wait)


def is_held(path: Path) -> bool:
    """Whether somebody holds it now. It is not made when it is missing: nobody holds it then."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _hold(path: Path, kind: int, on_wait: Callable[[], None] | None) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not _try(descriptor, kind):
            if not told and on_wait is not None:
                on_wait()
            told = True
            # Polled, not awaited in a thread: a blocked flock could not be cancelled.
            await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
