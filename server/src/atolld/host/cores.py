"""Cores that stay awake while a guest is started, brought back or saved.

The threads of a runtime wake each other up some thousand times on the way, each time on a core that has just gone to
sleep: in a virtual machine that is an exit to the hypervisor and back, on hardware a way out of a C-state. The kernel
lets a program ask for cores that answer at once: while a 0 stands in the device, idle cores spin. That is for the whole
machine and costs power, so it is asked for only meanwhile. What it brings is in docs/runtimes.md.

Source: https://docs.kernel.org/power/pm_qos_interface.html
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock

log = logging.getLogger("atolld.host")

DEVICE = Path("/dev/cpu_dma_latency")
# A signed 32-bit number of microseconds; a negative one takes the wish back.
AWAKE = struct.pack("=i", 0)
AS_USUAL = struct.pack("=i", -1)
# How long one piece of work may keep them awake: a large save takes seconds of reading, in which nothing is gained.
LONGEST_S = 1.0


class Cores:
    """Keeps this machine's cores awake through what `busy` surrounds, and for `after_s` more.

    Does nothing with `after_s` 0, or where the device cannot be written. What was asked of the kernel ends with the
    process.
    """

    def __init__(self, clock: Clock, after_s: float, device: Path = DEVICE) -> None:
        self._clock = clock
        self._after_s = after_s
        self._busy = 0
        self._until = 0.0
        self._asking = False
        self._fd = _open(device) if after_s > 0 else None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep them awake while it is entered, for at most LONGEST_S, and for a moment after the last one left it."""
        self._begin()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._until = min(self._until, self._clock.monotonic() + self._after_s)

    def close(self) -> None:
        """Take the wish back for good."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _begin(self) -> None:
        self._until = self._clock.monotonic() + LONGEST_S
        if not self._asking and self._fd is not None:
            self._asking = True
            self._write(AWAKE)
            spawn(self._let_sleep(), name="cores-let-sleep")

    async def _let_sleep(self) -> None:
        try:
            while (left := self._until - self._clock.monotonic()) > 0:
                # Work may end long before its bound.
                await self._clock.sleep(min(left, self._after_s))
        finally:
            self._asking = False
            self._write(AS_USUAL)

    def _write(self, value: bytes) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, value)
        except OSError as error:
            log.warning("cores are not kept awake: %s", error)
            self.close()


def _open(device: Path) -> int | None:
    try:
        return os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        # A kernel without it, a container without the device, or no right to it: guests are slower, that is all.
        log.info("cores are not kept awake: %s cannot be opened: %s", device, error.strerror)
        return None
