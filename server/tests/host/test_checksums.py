"""Checksums: the same for the same contents, wherever the holes are, and another for every flipped byte."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from atolld.host.checksums import disk_checksum, file_checksum
from atolld.host.sparse import clone_file

MIB = 1 << 20


def write(path: Path, parts: Sequence[tuple[int, bytes]], size: int = 8 * MIB) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
    return path


@pytest.mark.parametrize("data", [b"", b"a", b"x" * (3 * MIB + 1)])
def test_a_file_has_the_checksum_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    (tmp_path / "c").write_bytes(data + b"\0")
    assert file_checksum(tmp_path / "a") == file_checksum(tmp_path / "b")
    assert file_checksum(tmp_path / "a") != file_checksum(tmp_path / "c")
    assert len(file_checksum(tmp_path / "a")) == 32


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(0, b"a")],
        [(5, b"x" * 5000), (3 * MIB, b"end")],
        [(MIB - 3, b"y" * 70_000), (MIB + 200_000, b"z")],
        [(8 * MIB - 1, b"z")],
        [(0, os.urandom(8 * MIB))],
    ],
)
def test_holes_and_zeros_are_the_same_to_a_disk(tmp_path: Path, parts: list[tuple[int, bytes]]) -> None:
    sparse = write(tmp_path / "sparse", parts)
    full = write(tmp_path / "full", [(0, b"\0" * (8 * MIB)), *parts])
    clone_file(sparse, tmp_path / "clone")
    assert disk_checksum(sparse) == disk_checksum(full) == disk_checksum(tmp_path / "clone")


@pytest.mark.parametrize("at", [0, 1, 65535, 65536, MIB, 5 * MIB, 8 * MIB - 1])
def test_every_flipped_byte_of_a_disk_is_seen(tmp_path: Path, at: int) -> None:
    image = write(tmp_path / "image", [(0, b"a" * 100_000), (4 * MIB, b"b" * MIB)])
    before = disk_checksum(image)
    with open(image, "r+b") as file:
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)
    assert disk_checksum(image) != before


def test_data_that_moved_and_another_size_are_seen(tmp_path: Path) -> None:
    found = {
        disk_checksum(write(tmp_path / "a", [(0, b"x" * 65536)])),
        disk_checksum(write(tmp_path / "b", [(65536, b"x" * 65536)])),
        disk_checksum(write(tmp_path / "c", [(0, b"x" * 65536)], 9 * MIB)),
    }
    assert len(found) == 3


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        file_checksum(tmp_path / "link")
