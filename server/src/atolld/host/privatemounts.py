"""Work among mounts that nobody else sees and that are gone with it, however it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from atolld.host import syscalls

T = TypeVar("T")


async def in_private_mounts(work: Callable[[], T], *, name: str) -> T:
    """Run `work` in a thread of its own with a mount namespace of its own; what it mounts goes with the thread.

    The kernel takes the mounts away also when the daemon is killed. Mounts that others make and unmount meanwhile come
    and go here too, so that none of them is kept busy. A cancelled caller waits until the thread has ended.
    Raises what `work` raises, OSError.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", Path("/"), None, syscalls.MS_REC | syscalls.MS_SLAVE)
            outcome.append(work())
        except BaseException as error:
            failure.append(error)
        loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        await ended.wait()
    except asyncio.CancelledError:
        await ended.wait()
        raise
    # The namespace goes with the thread, and with it the loop devices.
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
