"""Reading the mount table, and mounts that are there or gone for certain."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path

import pytest

from atolld.host import mounts, syscalls
from atolld.host.mounts import holds_target, parse_mountinfo

LINES = (
    b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
    rb"90 27 0:50 /a\040b /srv/x\040y\011z\134n\012e rw,nodev shared:7 master:1 - overlay over\040lay rw,lowerdir=/a:/b"
    b"\n36 27 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def test_fields_and_octal_escapes() -> None:
    root, odd, cgroup = parse_mountinfo(LINES)
    assert (root.target, root.kind, root.source, root.shared) == (Path("/"), "ext4", "/dev/vda", False)
    assert odd.target == Path("/srv/x y\tz\\n\ne")
    assert odd.root == "/a b"
    assert odd.source == "over lay"
    assert odd.shared
    assert odd.options == {"rw", "nodev"}
    assert "lowerdir=/a:/b" in odd.super_options
    assert "memory" in cgroup.super_options


@pytest.mark.parametrize("line", [b"nonsense", b"1 2 3 - ext4", b"27 1 254:0 / / rw,relatime ext4 /dev/vda rw"])
def test_other_text_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a mountinfo line"):
        parse_mountinfo(line)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", True),
        ("/srv/x y\tz\\n\ne", True),
        ("/a b", False),
        ("/sys/fs/cgroup/memory", True),
        ("/sys/fs/cgroup", False),
        ("/memory", False),
        ("/nowhere", False),
    ],
)
def test_a_target_is_found_in_its_own_field_only(target: str, expected: bool) -> None:
    assert holds_target(LINES, Path(target)) is expected


def test_names_that_are_not_utf8_survive() -> None:
    (mount,) = parse_mountinfo(b"1 2 0:1 / /x\xff rw - tmpfs t rw\n")
    assert bytes(mount.target) == b"/x\xff"


def test_this_machine_has_a_root() -> None:
    assert any(mount.target == Path("/") for mount in mounts.read_mounts())


@pytest.mark.real
def test_mounts_below_come_innermost_first_and_unmount_is_idempotent(tmp_path: Path) -> None:
    outer, inner = tmp_path / "o", tmp_path / "o" / "in side\\#\t\n"
    outer.mkdir()
    syscalls.mount("none", outer, "tmpfs")
    inner.mkdir()
    syscalls.mount("none", inner, "tmpfs")
    syscalls.mount("none", inner, "tmpfs")
    assert mounts.mounts_below(tmp_path) == [inner, inner, outer]
    assert mounts.is_mounted(outer)
    assert mounts.is_mounted(inner)
    assert not mounts.is_mounted(tmp_path)
    assert not mounts.is_mounted(tmp_path / "o" / "in")
    with pytest.raises(OSError, match="umount"):
        mounts.unmount(outer)
    for target in mounts.mounts_below(tmp_path):
        mounts.unmount(target)
    mounts.unmount(outer)
    mounts.unmount(tmp_path / "never")
    mounts.detach(outer)
    assert mounts.mounts_below(tmp_path) == []


@pytest.mark.real
def test_make_shared_is_idempotent(tmp_path: Path) -> None:
    mounts.make_shared(tmp_path)
    mounts.make_shared(tmp_path)
    try:
        (mount,) = (m for m in mounts.read_mounts() if m.target == tmp_path)
        assert mount.shared
    finally:
        mounts.unmount(tmp_path)


@pytest.mark.parametrize(
    ("times", "number", "raises"), [(3, errno.EBUSY, False), (21, errno.EBUSY, True), (1, errno.EIO, True)]
)
def test_a_mount_that_is_held_a_moment_longer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int, number: int, raises: bool
) -> None:
    failures = [OSError(number, "umount")] * times
    slept: list[float] = []

    def unmount(target: Path) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(mounts, "unmount", unmount)
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(OSError, match="umount") if raises else contextlib.nullcontext():
        mounts.unmount_patiently(tmp_path, 0.5)
    assert len(slept) == (0 if number == errno.EIO else min(times, 20))
