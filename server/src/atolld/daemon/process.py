"""What the daemon asks of the kernel for itself."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

WANTED_FILES = 1_048_576
SWITCH_S = 0.001
AUTOGROUP = Path("/proc/self/autogroup")
AUTOGROUP_NICE = -10


def raise_file_limit() -> None:
    """As many open files as the machine lets this process have: every stream takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def take_turns() -> None:
    """Let the event loop's thread run soon where another one computes: it waits for the interpreter's lock.

    By default it may for 5 ms, which is as long as a create from a warm pool takes in this process.
    """
    sys.setswitchinterval(SWITCH_S)


def come_first(autogroup: Path = AUTOGROUP) -> bool:
    """Let the daemon run before what it starts, where the kernel shares CPU by session; returns whether it does now.

    With fifty sandboxes starting on two cores the daemon is otherwise one of fifty, and `/health` waits for half a
    second. A nice value would not do: the runtimes would inherit it. They begin sessions of their own, so they do not
    inherit this.
    """
    if os.getsid(0) != os.getpid():
        # The session is somebody's terminal: it is not ours to prefer.
        return False
    try:
        autogroup.write_text(f"{AUTOGROUP_NICE}\n", encoding="ascii")
    except OSError:
        # The kernel does not share by session, or does not let us.
        return False
    return True
