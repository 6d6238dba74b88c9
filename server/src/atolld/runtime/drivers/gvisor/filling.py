"""Making the pages of a large guest's memory before the sentry reads into them, on another core (docs/runtimes.md).

The sentry reads a saved block with one call on one thread, and takes a fault for each page of it: half of a resume of
200 MiB. Meanwhile

1. a helper in the sandbox's memory group, which is to pay for them, makes the pages with fallocate(1), without zeroing;
2. this process has them mapped for the sentry, from the end of the block towards the sentry's reading (`host.faults`).

Neither writes contents, so one that comes late, or to the wrong place, changes nothing. Nothing here fails a restore:
what cannot be made beforehand, the sentry makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from atolld.foundation.aio import spawn
from atolld.host.faults import CALL_BYTES, Faults
from atolld.runtime.drivers.gvisor.runs import MemoryFile, Run, memory_files

T = TypeVar("T")
log = logging.getLogger("atolld.gvisor")

# Joining the group takes 10 ms and more, so it begins before the file is known; then comes a line for each part.
_HELPER = """
echo $$ >"$1" || exit
while read -r file offset length; do "$2" -n -o "$offset" -l "$length" "$file" || exit; done
"""
_LOOK_S = 0.001
# One at a time: with more, the cores are busy without it.
_only_one = threading.Lock()


@dataclass(frozen=True, slots=True)
class Filling:
    """A sentry will read `runs` into a memory file that it has not opened yet, the second that it opens.

    `find`: its process, None while there is none. `group`: its memory's `cgroup.procs`. `first`: the inode of its first
    memory file, None when it has none yet. `stop`: once set, it ends within some milliseconds.
    """

    find: Callable[[], int | None]
    group: Path
    runs: Sequence[Run]
    first: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def do_blocking(self) -> None:
        """Returns when everything is made, or it was told to stop. Raises OSError, ValueError."""
        fallocate = shutil.which("fallocate")
        if fallocate is None or not _only_one.acquire(blocking=False):
            return
        try:
            with self._helper(fallocate) as helper:
                file = self._second()
                if file is None:
                    return
                # Held open: what the helper opens is this file, whatever becomes of the process.
                descriptor = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if os.fstat(descriptor).st_ino == file.inode:
                        self._fill(helper, file, descriptor)
                finally:
                    os.close(descriptor)
        finally:
            _only_one.release()

    def _second(self) -> MemoryFile | None:
        """The file to fill; None when it is to stop, or when it came too fast to be told from the first."""
        sentry = self._wait(self.find)
        if sentry is None:
            return None
        first = self.first
        if first is None:
            files = self._wait(lambda: list(memory_files(sentry)) or None)
            if files is None or len(files) > 1:
                return None
            first = files[0].inode
        return self._wait(lambda: next((file for file in memory_files(sentry) if file.inode != first), None))

    def _fill(self, helper: subprocess.Popen[bytes], file: MemoryFile, descriptor: int) -> None:
        # Not before the sentry has mapped it: it empties the file first.
        needed = max(run.offset + run.length for run in self.runs)
        base = self._wait(lambda: _mapped(file, needed))
        if base is None or helper.stdin is None:
            return
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        lines = (f"{path} {run.offset} {run.length}\n" for run in self.runs)
        helper.stdin.write("".join(lines).encode())
        helper.stdin.close()
        while helper.poll() is None:
            if self.stop.wait(_LOOK_S):
                return
        faults = Faults(file.pid)
        for run in reversed(self.runs):
            self._fault_in(faults, base + run.offset, base + run.offset + run.length)

    def _fault_in(self, faults: Faults, first: int, end: int) -> None:
        while end - CALL_BYTES >= first and not self.stop.is_set():
            end -= CALL_BYTES
            if not faults.take(end):
                # The sentry has read as far as here.
                return

    @contextlib.contextmanager
    def _helper(self, fallocate: str) -> Iterator[subprocess.Popen[bytes]]:
        nowhere = subprocess.DEVNULL
        argv = ["/bin/sh", "-c", _HELPER, "sh", str(self.group), fallocate]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere) as helper:
            try:
                yield helper
            finally:
                helper.kill()

    def _wait(self, look: Callable[[], T | None]) -> T | None:
        """What `look` finds, once it does; None when it is to stop."""
        while not self.stop.is_set():
            found = look()
            if found is not None:
                return found
            time.sleep(_LOOK_S)
        return None


def _mapped(file: MemoryFile, needed: int) -> int | None:
    """Where the process has mapped the first `needed` bytes of the file."""
    for line in Path(f"/proc/{file.pid}/maps").read_text().splitlines():
        addresses, _, offset, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(number, 16) for number in addresses.split("-"))
        if inode == str(file.inode) and int(offset, 16) == 0 and last - first >= needed:
            return first
    return None


@contextlib.asynccontextmanager
async def beside(filling: Filling) -> AsyncIterator[None]:
    """Fill while the body restores; at its end the filling ends, and is waited for. Without parts nothing is filled."""
    if not filling.runs:
        yield
        return
    work = spawn(asyncio.to_thread(_try, filling), name="fill")
    try:
        yield
    finally:
        filling.stop.set()
        await asyncio.wait([work])


def _try(filling: Filling) -> None:
    try:
        filling.do_blocking()
    except (OSError, ValueError) as error:
        log.info("the memory of a sandbox was not made beforehand: %r", error)
