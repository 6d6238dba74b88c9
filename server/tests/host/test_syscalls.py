"""Failures carry their errno and the path."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from atolld.host import syscalls


def test_a_refused_mount_names_its_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mount tmpfs") as caught:
        syscalls.mount("none", tmp_path / "missing", "tmpfs")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    assert caught.value.filename == str(tmp_path / "missing")


def test_umount_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    with pytest.raises(OSError, match="umount"):
        syscalls.umount(tmp_path / "link")
    assert Path("/proc/self").exists()


def test_an_exchange_of_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "file").touch()
    other.write_text("text")
    syscalls.exchange(one, other)
    assert one.read_text() == "text" and (other / "file").exists()
    with pytest.raises(OSError, match="exchange") as caught:
        syscalls.exchange(one, tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT and one.read_text() == "text"
