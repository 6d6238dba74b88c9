"""Places where a test kills the daemon, to prove that what it left half-made is found and cleaned.

A point does nothing unless the environment variable ATOLL_CRASH_POINT names it when the process starts; then the
process kills itself there with SIGKILL, as hard as a power cut of the daemon can be.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("ATOLL_CRASH_POINT")


def crash_point(name: str) -> None:
    """End the process by SIGKILL when ATOLL_CRASH_POINT is `name`; otherwise do nothing."""
    if _ARMED is not None and name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
