from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from atolld.foundation.crash import crash_point

PROGRAM = "from atolld.foundation.crash import crash_point; crash_point('here'); print('went on')"


@pytest.mark.parametrize(
    ("armed", "code", "output"),
    [
        (None, 0, "went on\n"),
        ("elsewhere", 0, "went on\n"),
        ("", 0, "went on\n"),
        ("here", -signal.SIGKILL, ""),
    ],
)
def test_only_the_named_point_kills(armed: str | None, code: int, output: str) -> None:
    env = {key: value for key, value in os.environ.items() if key != "ATOLL_CRASH_POINT"}
    if armed is not None:
        env["ATOLL_CRASH_POINT"] = armed
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, output)


def test_nothing_happens_here() -> None:
    crash_point("create.after_insert")
