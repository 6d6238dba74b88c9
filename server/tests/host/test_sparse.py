"""Copies keep their holes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.host.sparse import can_clone, clone_file


@pytest.mark.parametrize(
    "parts",
    [[], [(0, b"a")], [(0, b"x" * 5000), (3 << 20, b"end")], [(1 << 20, b"y" * 70_000)], [((8 << 20) - 1, b"z")]],
)
def test_data_and_holes_are_copied(tmp_path: Path, parts: list[tuple[int, bytes]]) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with open(source, "wb") as file:
        file.truncate(8 << 20)
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
    clone_file(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 16
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        clone_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_failed_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"data")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr("fcntl.ioctl", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    with pytest.raises(OSError, match="No space"):
        clone_file(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_whether_a_file_system_clones_is_what_cloning_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 4096)
    assert can_clone(tmp_path) is clone_file(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert not can_clone(tmp_path / "none")
