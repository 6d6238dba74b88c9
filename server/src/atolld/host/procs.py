"""Processes that are not our children: named by pid and start time, watched and signalled through pidfds.

A pid alone names nothing: the kernel gives it to somebody else as soon as its process is reaped.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import signal as signals
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process for certain. `started_ticks`: its start in clock ticks since boot, from /proc/<pid>/stat."""

    pid: int
    started_ticks: int


def parse_started_ticks(stat: str) -> int:
    """Field 22 of /proc/<pid>/stat; the command before it may hold blanks and brackets. Raises ValueError."""
    _, bracket, rest = stat.rpartition(")")
    fields = rest.split()
    if not bracket or len(fields) < 20:
        raise ValueError(f"not a /proc/<pid>/stat line: {stat[:100]!r}")
    return int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has `pid` now; None when there is none."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ProcessIdentity(pid, parse_started_ticks(stat))


def is_alive(process: ProcessIdentity) -> bool:
    """Whether exactly this process still runs; a zombie that only waits to be reaped does not."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        return not _has_ended(descriptor)
    finally:
        os.close(descriptor)


def is_killed(process: ProcessIdentity) -> bool:
    """Whether it has got a SIGKILL that it has not died of yet; True when it is gone.

    In a frozen control group of version 1 a process that was killed is there until the group is thawed.
    """
    try:
        status = (PROC / str(process.pid) / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = re.findall(r"^S(?:ig|hd)Pnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return any(int(mask, 16) & (1 << signals.SIGKILL - 1) for mask in pending) or identify(process.pid) != process


def open_pidfd(process: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process, to be closed by the caller; None when it is gone.

    The start time is compared after the descriptor is open: from then on the pid cannot change hands unseen.
    Raises OSError (EMFILE and the like).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        # EINVAL: the number now belongs to a thread that is not the leader of a process.
        if error.errno == errno.EINVAL:
            return None
        raise
    if identify(process.pid) != process:
        os.close(descriptor)
        return None
    return descriptor


def send_signal(process: ProcessIdentity, number: int = signals.SIGKILL) -> bool:
    """Signal exactly this process. False when it is gone. Raises OSError (EPERM)."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        signals.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def wait_death(process: ProcessIdentity, timeout_s: float | None = None) -> bool:
    """Wait until the process has ended, child of ours or not; at once when it is gone.

    Returns False when `timeout_s` passed first; None waits for ever. Costs one file descriptor and no polling.
    """
    descriptor = open_pidfd(process)
    if descriptor is None:
        return True
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await asyncio.wait_for(ended, timeout_s)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
