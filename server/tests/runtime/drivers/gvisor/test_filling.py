"""Pages made for another process's memory file: a stand-in for the sentry opens one, maps it and looks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atolld.runtime.drivers.gvisor.filling import Filling, beside
from atolld.runtime.drivers.gvisor.runs import Run, memory_files

MIB = 1 << 20
RUNS = (Run(2 * MIB, 20 * MIB), Run(40 * MIB, 24 * MIB))
# Has one file from the beginning, as a prepared sentry does. After a line it opens another, empties and maps it, and
# after the next it prints how many minor faults writing to each part takes, what the file uses, and if it was empty.
SENTRY = """
import mmap, os, resource, sys
first = os.memfd_create("runsc-memory")
os.posix_fallocate(first, 0, 1 << 20)
print("ready", flush=True)
sys.stdin.readline()
file = os.memfd_create("runsc-memory")
os.ftruncate(file, 0)
os.ftruncate(file, 1 << 30)
memory = mmap.mmap(file, 1 << 30)
print("mapped", flush=True)
sys.stdin.readline()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
clean = True
for offset, length in ((2, 20), (40, 24)):
    for page in range(offset << 20, (offset + length) << 20, 4096):
        clean = clean and memory[page] == 0
        memory[page] = 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, os.fstat(file).st_blocks * 512, clean, flush=True)
"""


@contextmanager
def sentry() -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", SENTRY]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert said(process) == "ready"
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def begun(work: threading.Thread, group: Path) -> None:
    """Start it and wait until it has looked at what is open, and its helper is there."""
    work.start()
    while not group.exists():
        assert work.is_alive()
        work.join(0.005)
    # It has looked long before, but it need not have on a busy machine.
    work.join(0.2)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """In the place of a group's `cgroup.procs`."""
    return tmp_path / "procs"


def filling_of(process: subprocess.Popen[str], group: Path, runs: tuple[Run, ...], *, prepared: bool = True) -> Filling:
    """Of a sentry that was prepared, so that its first file is known, or of one that is just starting."""
    first = next(memory_files(process.pid)).inode if prepared else None
    return Filling(lambda: process.pid, group, runs, first)


@pytest.mark.real
@pytest.mark.parametrize("prepared", [True, False])
def test_the_pages_are_there_and_mapped_and_empty(group: Path, prepared: bool) -> None:
    faults = []
    for fills in (False, True):
        with sentry() as process:
            filling = filling_of(process, group, RUNS, prepared=prepared)
            work = threading.Thread(target=filling.do_blocking)
            if fills:
                begun(work, group)
            go_on(process)
            assert said(process) == "mapped"
            if fills:
                work.join(20)
                assert not work.is_alive()
                # The helper has joined before it made anything.
                assert int(group.read_text()) > 1
            go_on(process)
            count, used_bytes, clean = said(process).split()
            assert (int(used_bytes), clean) == (44 * MIB, "True")
            faults.append(int(count))
    without, with_filling = faults
    assert without > 10_000 and with_filling < without / 10


@pytest.mark.real
@pytest.mark.parametrize("lines", [0, 1])
def test_it_ends_when_it_is_told_to(group: Path, lines: int) -> None:
    """Before the file is there, and while it would still be mapped."""
    with sentry() as process:
        filling = filling_of(process, group, (Run(0, 2 << 30),))
        work = threading.Thread(target=filling.do_blocking)
        begun(work, group)
        for _ in range(lines):
            go_on(process)
            assert said(process) == "mapped"
        work.join(0.2)
        assert work.is_alive()
        filling.stop.set()
        work.join(5)
        assert not work.is_alive()


@pytest.mark.real
def test_what_cannot_be_told_from_the_first_is_left_alone(group: Path) -> None:
    with sentry() as process:
        go_on(process)
        assert said(process) == "mapped"
        filling_of(process, group, RUNS, prepared=False).do_blocking()
        go_on(process)
        assert int(said(process).split()[0]) > 10_000


@pytest.mark.real
def test_only_one_fills_at_a_time(group: Path) -> None:
    with sentry() as process:
        first, second = (filling_of(process, group, RUNS) for _ in range(2))
        work = threading.Thread(target=first.do_blocking)
        begun(work, group)
        second.do_blocking()
        assert work.is_alive()
        first.stop.set()
        work.join(5)


@pytest.mark.parametrize("pid", [1 << 30])
async def test_a_process_that_is_gone_fails_nothing(group: Path, pid: int) -> None:
    async with beside(Filling(lambda: pid, group, RUNS)):
        pass
    async with beside(Filling(lambda: pid, group, ())):
        pass


async def test_what_the_body_raises_is_raised_once_it_has_ended(group: Path) -> None:
    filling = Filling(lambda: 1 << 30, group, RUNS)
    with pytest.raises(OSError, match="no restore"):
        async with beside(filling):
            raise OSError("no restore")
    assert filling.stop.is_set()
