from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition
from atolld.storage.lock import StateLock

HOLD = """
import sys
from pathlib import Path
from atolld.storage.lock import StateLock
StateLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path / "state"), StateLock(tmp_path / "state")
    first.acquire()
    with pytest.raises(FailedPrecondition, match=rf"process {os.getpid()}\b"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "held\n"
    lock = StateLock(tmp_path)
    with pytest.raises(FailedPrecondition, match=rf"process {child.pid}\b"):
        lock.acquire()
    child.kill()
    child.wait()
    lock.acquire()
    lock.release()
    child.stdin.close()
    child.stdout.close()


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "state")
    lock.acquire()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "daemon.lock").stat().st_mode & 0o777 == 0o600
    lock.release()
