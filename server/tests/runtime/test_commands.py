"""Commands: their output, their end, their being cut off."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.errors import DeadlineExceeded
from atolld.host import procs
from atolld.runtime.commands import Command, run_command, run_to_its_end, tail
from atolld.runtime.refuse import slow_calls


def sh(line: str, output: Path) -> Command:
    return Command(["/bin/sh", "-c", line], output)


@pytest.mark.parametrize(("line", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
async def test_status(line: str, status: int, tmp_path: Path) -> None:
    assert await run_command(sh(line, tmp_path / "out"), 10) == status


async def test_output_is_appended(tmp_path: Path) -> None:
    for word in ("one", "two"):
        await run_command(sh(f"echo {word}; echo {word} >&2", tmp_path / "out"), 10)
    assert (tmp_path / "out").read_text() == "one\none\ntwo\ntwo\n"


async def test_nothing_of_the_daemon_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_SECRET", "x")
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        line = "env; ls /proc/self/fd | tr '\\n' ' '; ps -o sid= -p $$ | tr -d ' '; echo $$"
        await run_command(sh(line, tmp_path / "out"), 10)
    finally:
        os.close(descriptor)
    text = (tmp_path / "out").read_text()
    assert "ATOLL_SECRET" not in text
    assert f" {descriptor} " not in text
    session, pid = text.split()[-2:]
    assert session == pid, "it does not lead a session of its own"


async def test_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="0.2 s"):
        await run_command(sh("sleep 77 & echo $! ; wait", tmp_path / "out"), 0.2)
    assert time.monotonic() - began < 5
    await _gone(int((tmp_path / "out").read_text()))


async def test_cancelled_is_killed(tmp_path: Path) -> None:
    task = spawn(run_command(sh("echo $$; exec sleep 77", tmp_path / "out"), 60), name="test", report=False)
    pid = int(await asyncio.to_thread(_first_line, tmp_path / "out"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _gone(pid)


async def test_one_that_must_not_be_cut_off_ends_first(tmp_path: Path) -> None:
    line = f"echo $$; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo done"
    task = spawn(run_to_its_end(sh(line, tmp_path / "out"), 60), name="test", report=False)
    await asyncio.to_thread(_first_line, tmp_path / "out")
    task.cancel()
    (tmp_path / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "out").read_text().endswith("done\n")


async def test_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await run_command(Command(["/no/such/program"], tmp_path / "out"), 10)


async def test_output_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        await run_command(sh("echo x", tmp_path / "link"), 10)
    assert not (tmp_path / "target").exists()


@pytest.mark.real
async def test_cover_is_for_the_command_only(tmp_path: Path) -> None:
    covered = Command(["/bin/ls", "/proc/sys/net"], tmp_path / "out", cover=(Path("/proc/sys/net"),))
    assert await run_command(covered, 10) == 0
    assert (tmp_path / "out").read_text() == ""
    assert os.listdir("/proc/sys/net")


@pytest.mark.real
async def test_tiny_takes_four_kib_and_is_for_the_command_only(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    line = f"cd {tmp_path}/tiny && head -c 4096 /dev/zero >a; head -c 1 /dev/zero >b; wc -c a b"
    assert await run_command(replace(sh(line, tmp_path / "out"), tiny=(tmp_path / "tiny",)), 10) == 0
    text = (tmp_path / "out").read_text()
    assert "No space left" in text
    assert "4096 a" in text
    assert os.listdir(tmp_path / "tiny") == []


@pytest.mark.parametrize(("batch", "policy"), [(True, os.SCHED_BATCH), (False, os.SCHED_OTHER)])
async def test_batch_is_for_the_command_and_what_it_starts(batch: bool, policy: int, tmp_path: Path) -> None:
    code = "import os, subprocess as s; print(os.sched_getscheduler(0), flush=True)"
    again = f"{code}; s.run(['/usr/bin/env', 'python3', '-c', {code!r}])"
    await run_command(Command(["/usr/bin/env", "python3", "-c", again], tmp_path / "out", batch=batch), 10)
    assert (tmp_path / "out").read_text().split() == [str(policy)] * 2
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.real
@pytest.mark.parametrize(
    ("call", "answer", "error"),
    [
        ("324, 0, 0", -1, errno.ENOSYS),
        # The CPUID instruction faults from now on: for the one that asks, so it would end here.
        ("158, 0x1012, 0", -1, errno.ENODEV),
        # Whether it does not.
        ("158, 0x1011, 0", 1, 0),
    ],
)
async def test_filter_refuses_what_makes_guests_slow(call: str, answer: int, error: int, tmp_path: Path) -> None:
    code = f"import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.syscall({call}), ctypes.get_errno())"
    program = ["/usr/bin/env", "python3", "-c", code]
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    await run_command(Command(program, tmp_path / "out", filter=slow_calls()), 10)
    assert (tmp_path / "out").read_text().split() == [str(answer), str(error)]


def test_tail(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""
    (tmp_path / "some").write_text("0123456789\n")
    assert tail(tmp_path / "some", 4) == "789"


def _first_line(path: Path) -> str:
    deadline = time.monotonic() + 5
    while not tail(path):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return tail(path).splitlines()[0]


async def _gone(pid: int) -> None:
    process = procs.identify(pid)
    assert process is None or await procs.wait_death(process, 5), f"process {pid} lives on"


@pytest.mark.real
async def test_a_sealed_file_is_read_only_for_the_command_only(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    file = tmp_path / "shared"
    file.write_text("content")
    file.chmod(0o755)
    argv = ["/bin/sh", "-c", f"cat {file}; chmod 4777 {file}; chown 1 {file}; echo x >>{file}"]
    assert await run_command(Command(argv, tmp_path / "out", seal=(file,)), 10) != 0
    assert "content" in (tmp_path / "out").read_text()
    assert (file.read_text(), file.stat().st_mode & 0o7777, file.stat().st_uid) == ("content", 0o755, 0)
    file.chmod(0o700)  # Not read-only for this process.
