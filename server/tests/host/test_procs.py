"""Processes are named by pid and start time, and watched without being their parent."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from atolld.host import procs
from atolld.host.procs import (
    ProcessIdentity,
    identify,
    is_alive,
    is_killed,
    parse_started_ticks,
    send_signal,
    wait_death,
)


@pytest.mark.parametrize("command", ["sh", "a b", "x) R 1 2 3", "((", "tmux: server (1"])
def test_the_start_time_is_found_behind_any_command(command: str) -> None:
    rest = " ".join(["S", *(str(n) for n in range(4, 53))])
    assert parse_started_ticks(f"123 ({command}) {rest}") == 22


@pytest.mark.parametrize("text", ["", "1 sh S 1", "1 (sh) S 1 2"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="stat"):
        parse_started_ticks(text)


def test_a_process_is_identified_until_it_ends(start_python: Callable[..., Any]) -> None:
    process = start_python("input()")
    identity = identify(process.pid)
    assert identity is not None
    assert is_alive(identity)
    assert send_signal(identity, signal.SIGKILL)
    process.popen.wait()
    assert not is_alive(identity)
    assert not send_signal(identity)
    assert identify(process.pid) is None


def test_a_reused_pid_is_never_signalled(start_python: Callable[..., Any]) -> None:
    process = start_python("input()")
    identity = identify(process.pid)
    assert identity is not None
    former = ProcessIdentity(identity.pid, identity.started_ticks - 1)
    assert not send_signal(former)
    assert not is_alive(former)
    assert is_alive(identity)


def test_one_that_was_killed_and_cannot_die_yet(start_python: Callable[..., Any]) -> None:
    process = start_python("input()")
    identity = identify(process.pid)
    assert identity is not None
    assert not is_killed(identity)
    assert is_killed(ProcessIdentity(identity.pid, identity.started_ticks - 1))
    assert send_signal(identity, signal.SIGKILL)
    process.popen.wait()
    assert is_killed(identity)


def start_orphan() -> int:
    """A process that is not our child: its parent, a shell, has ended."""
    command = "sleep 30 >/dev/null 2>&1 & echo $!"
    return int(subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout)


async def test_death_of_a_process_that_is_not_a_child_is_noticed() -> None:
    identity = identify(start_orphan())
    assert identity is not None
    assert not await wait_death(identity, timeout_s=0.05)
    before = len(os.listdir("/proc/self/fd"))
    send_signal(identity)
    assert await wait_death(identity, timeout_s=5)
    assert await wait_death(identity, timeout_s=5)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_zombie_counts_as_ended(start_python: Callable[..., Any]) -> None:
    process = start_python("")
    identity = identify(process.pid)
    assert identity is not None
    assert await wait_death(identity, timeout_s=5)
    assert not is_alive(identity)


def test_a_pid_nobody_has() -> None:
    assert procs.identify(2**22) is None
    assert not is_alive(ProcessIdentity(2**22, 1))
