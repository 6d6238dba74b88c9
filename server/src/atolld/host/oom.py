"""Being told when the kernel kills for memory, instead of asking again and again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import AsyncIterator

from atolld.host.cgroup_layout import CgroupMode
from atolld.host.cgroups import Cgroups

_IN_MODIFY = 0x2
_IN_NONBLOCK = 0o4000
_IN_CLOEXEC = 0o2000000
# Together one second: a large process takes a while to die.
_SETTLE_TRIES = 50
_SETTLE_PAUSE_S = 0.02


async def oom_kills(cgroups: Cgroups, id: str) -> AsyncIterator[int]:
    """Yield the count of killed processes of group `id` whenever it has grown, until the group is removed.

    Costs two file descriptors on version 1 and one on version 2, and no polling. Kills from before the call count as
    known. Raises FileNotFoundError when there is no such group.
    """
    known = cgroups.stats(id).oom_kills
    with contextlib.ExitStack() as descriptors:
        event = _watch(cgroups, id, descriptors)
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        loop.add_reader(event, changed.set)
        descriptors.callback(loop.remove_reader, event)
        while True:
            await changed.wait()
            changed.clear()
            with contextlib.suppress(BlockingIOError):
                os.read(event, 4096)
            count = await _grown(cgroups, id, known)
            if count > known:
                known = count
                yield count
            elif not cgroups.layout.directory("memory", cgroups.path(id)).exists():
                return


async def _grown(cgroups: Cgroups, id: str, known: int) -> int:
    """The count once it is above `known`: version 1 tells of the shortage shortly before it kills."""
    for _ in range(_SETTLE_TRIES):
        count = cgroups.oom_kills(id)
        if count > known:
            return count
        await asyncio.sleep(_SETTLE_PAUSE_S)
    return known


def _watch(cgroups: Cgroups, id: str, descriptors: contextlib.ExitStack) -> int:
    directory = cgroups.layout.directory("memory", cgroups.path(id))
    if cgroups.layout.mode is CgroupMode.V2:
        libc = ctypes.CDLL(None, use_errno=True)
        event = int(libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC))
        if event < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        descriptors.callback(os.close, event)
        if libc.inotify_add_watch(event, os.fsencode(directory / "memory.events"), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(directory))
        return event
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    descriptors.callback(os.close, event)
    control = os.open(directory / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    descriptors.callback(os.close, control)
    (directory / "cgroup.event_control").write_text(f"{event} {control}")
    return event
