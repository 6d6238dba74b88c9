from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.node.logs import read_tail


@pytest.mark.parametrize(
    ("content", "limit", "tail"),
    [
        (b"", 10, b""),
        (b"one\ntwo\n", 100, b"one\ntwo\n"),
        (b"one\ntwo\nthree\n", 8, b"three\n"),
        (b"x" * 50, 10, b"x" * 10),
    ],
)
def test_the_end_of_the_file_from_a_line_on(tmp_path: Path, content: bytes, limit: int, tail: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert read_tail(path, limit) == tail


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "none", 10) == b""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "log").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        read_tail(tmp_path / "log", 10)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    assert read_tail(tmp_path / "log", 10) == b""
