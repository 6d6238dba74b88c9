"""Which parts of a guest's memory file are filled: noted beside a save, so that a restore can make the pages ahead.

The file is the sentry's `memfd:runsc-memory`; a restore puts each page where it was. What is noted may come from
elsewhere with an archive: it is checked, and wrong parts cost the sandbox memory and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atolld.host.sparse import data_runs

log = logging.getLogger("atolld.gvisor")

FILE = "runs.json"
PAGES = "pages.img"
_NAME = "/memfd:runsc-memory"
# Smaller ones the sentry reads with several threads, and a helper for each costs more than it gains.
_LEAST_BYTES = 16 << 20
_LEAST_TOTAL_BYTES = 32 << 20
_MOST = 8
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Run:
    """`length` bytes at `offset` of the memory file, whole pages."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A memory file that process `pid` has open as `descriptor`."""

    pid: int
    descriptor: int
    inode: int
    used_bytes: int

    @property
    def path(self) -> Path:
        """Opens the file itself, which has no name."""
        return Path(f"/proc/{self.pid}/fd/{self.descriptor}")


def memory_files(sentry: int) -> Iterator[MemoryFile]:
    """The memory files that a sentry has open; one that was prepared may still have its first one. Raises OSError."""
    for entry in os.scandir(f"/proc/{sentry}/fd"):
        try:
            if os.readlink(entry.path).startswith(_NAME):
                status = os.stat(entry.path)
                yield MemoryFile(sentry, int(entry.name), status.st_ino, status.st_blocks * 512)
        except FileNotFoundError:
            continue


def note(sentry: int, directory: Path) -> None:
    """Write down the large parts beside the memory that was just saved there, if it has any. Raises OSError.

    For a guest that stands still; a few milliseconds for some 100 MiB.
    """
    if (directory / PAGES).stat().st_size < _LEAST_TOTAL_BYTES:
        return
    file = max(memory_files(sentry), key=lambda file: file.used_bytes, default=None)
    if file is None:
        return
    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        runs = _large(Run(start, end - start) for start, end in data_runs(descriptor))
    finally:
        os.close(descriptor)
    if runs:
        (directory / FILE).write_text(json.dumps([[run.offset, run.length] for run in runs]))


def read(directory: Path) -> tuple[Run, ...]:
    """What was noted; nothing where there is no note, or one that cannot be true."""
    try:
        stored = json.loads((directory / FILE).read_text())
        runs = tuple(Run(offset, length) for offset, length in stored)
        total = (directory / PAGES).stat().st_size
        numbers = [number for run in runs for number in (run.offset, run.length)]
        if not all(isinstance(number, int) and 0 <= number < 1 << 46 and number % _PAGE == 0 for number in numbers):
            raise ValueError("a number that is none")
        if len(runs) > _MOST or sum(run.length for run in runs) > total:
            raise ValueError("more than there is")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        log.info("%s of %s is not used: %r", FILE, directory, error)
        return ()
    return runs


def _large(runs: Iterator[Run]) -> list[Run]:
    """The largest ones, by place; none when they are not worth it."""
    large = sorted((run for run in runs if run.length >= _LEAST_BYTES), key=lambda run: -run.length)[:_MOST]
    worth = sum(run.length for run in large) >= _LEAST_TOTAL_BYTES
    return sorted(large, key=lambda run: run.offset) if worth else []
