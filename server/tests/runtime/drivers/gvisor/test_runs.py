"""Which parts of a memory file are noted beside a save, and what is believed of a note."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atolld.runtime.drivers.gvisor.runs import FILE, PAGES, Run, memory_files, note, read

MIB = 1 << 20


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("runsc-memory")
    yield descriptor
    os.close(descriptor)


def saved(directory: Path, pages_mib: int) -> Path:
    with (directory / PAGES).open("wb") as file:
        file.truncate(pages_mib * MIB)
    return directory


@pytest.mark.parametrize(
    ("filled", "pages_mib", "noted"),
    [
        # (offset, length) in MiB.
        ([], 0, ()),
        ([(1, 8)], 8, ()),
        ([(3, 20)], 20, ()),
        ([(3, 40)], 40, ((3, 40),)),
        ([(0, 1), (2, 16), (100, 20)], 37, ((2, 16), (100, 20))),
        ([(2, 16), (100, 15)], 31, ()),
        ([(32 * n, 16 + n) for n in range(10)], 205, tuple((32 * n, 16 + n) for n in range(2, 10))),
    ],
)
def test_the_large_parts_are_noted(
    memory: int, tmp_path: Path, filled: list[tuple[int, int]], pages_mib: int, noted: tuple[tuple[int, int], ...]
) -> None:
    os.ftruncate(memory, 1 << 30)
    for offset, length in filled:
        os.pwrite(memory, bytes(length * MIB), offset * MIB)
    note(os.getpid(), saved(tmp_path, pages_mib))
    assert read(tmp_path) == tuple(Run(offset * MIB, length * MIB) for offset, length in noted)
    assert (tmp_path / FILE).exists() is bool(noted)


def test_the_file_that_is_used_counts(memory: int, tmp_path: Path) -> None:
    os.ftruncate(memory, MIB)
    other = os.memfd_create("runsc-memory")
    try:
        os.pwrite(other, bytes(40 * MIB), 0)
        # Made and never written: no data.
        os.posix_fallocate(other, 60 * MIB, 40 * MIB)
        assert len(list(memory_files(os.getpid()))) == 2
        note(os.getpid(), saved(tmp_path, 40))
    finally:
        os.close(other)
    assert read(tmp_path) == (Run(0, 40 * MIB),)


def test_who_has_no_memory_file_is_not_noted(tmp_path: Path) -> None:
    note(os.getpid(), saved(tmp_path, 40))
    assert read(tmp_path) == ()


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{}x",
        "[[0]]",
        "[[0, 4096, 1]]",
        "7",
        '[["0", 4096]]',
        "[[0.0, 4096]]",
        "[[-4096, 4096]]",
        "[[1, 4096]]",
        "[[0, 4097]]",
        f"[[{1 << 46}, 4096]]",
        # More than was saved, in one and in all.
        f"[[0, {41 * MIB}]]",
        f"[[0, {30 * MIB}], [{40 * MIB}, {30 * MIB}]]",
        json.dumps([[0, 4096]] * 9),
    ],
)
def test_a_note_that_cannot_be_true_is_none(tmp_path: Path, stored: str) -> None:
    (saved(tmp_path, 40) / FILE).write_text(stored)
    assert read(tmp_path) == ()
