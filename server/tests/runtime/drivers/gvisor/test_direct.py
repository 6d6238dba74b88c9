"""Which file systems take O_DIRECT."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atolld.host import syscalls
from atolld.runtime.drivers.gvisor.direct import takes_direct_writes


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    syscalls.mount("none", tmp_path, "tmpfs", 0, "size=4k,nr_inodes=1")
    yield tmp_path
    syscalls.umount(tmp_path)


def test_what_the_kernel_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument", str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    assert not takes_direct_writes(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        takes_direct_writes(tmp_path / "none")


@pytest.mark.real
def test_a_disk(tmp_path: Path) -> None:
    assert takes_direct_writes(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.real
def test_a_full_one(full: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        takes_direct_writes(full)
