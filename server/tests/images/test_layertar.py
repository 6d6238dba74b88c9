from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.foundation.errors import FailedPrecondition, InvalidArgument
from atolld.images.layertar import pack, unpack

AT_NS = 1_700_000_000_123_456_789


def make_tree(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(os.urandom(3_000_000))
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/alias")
    (root / "bin").symlink_to("usr/bin")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "empty").touch()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / ("long-" + "n" * 200)).write_text("x")
    os.mkdir(os.fsencode(root) + b"/not-utf8-\xff")
    os.mkfifo(root / "pipe")
    os.setxattr(root / "empty", "user.bytes", bytes(range(256)))
    for path in (*root.rglob("*"), root):
        os.utime(path, ns=(AT_NS, AT_NS + len(path.name)), follow_symlinks=False)


def state(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        found[os.path.relpath(path, root)] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            path.read_bytes()
            if kind == stat.S_IFREG
            else os.readlink(path)
            if kind == stat.S_IFLNK
            else status.st_rdev,
            status.st_nlink if kind == stat.S_IFREG else 0,
            {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)},
        )
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    make_tree(root)
    return root


def test_a_tree_comes_back_exactly(tree: Path, tmp_path: Path) -> None:
    data = b"".join(pack(tree))
    there = tmp_path / "there"
    there.mkdir()
    unpack(io.BytesIO(data), there)
    assert state(there) == state(tree)
    assert (there / "usr/bin/tool").samefile(there / "usr/bin/alias")
    # And so the tar of the copy is the same again.
    assert b"".join(pack(there)) == data


def test_other_programs_can_read_it(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(tree)))) as tar:
        assert tar.getmember("bin").linkname == "usr/bin"
        assert tar.getmember("usr/bin/tool").linkname == "usr/bin/alias"


def test_a_socket_is_not_packed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(FailedPrecondition, match="socket"):
            list(pack(tmp_path))


@pytest.mark.real
def test_whiteouts_owners_and_trusted_attributes_come_back(tmp_path: Path) -> None:
    root, there = tmp_path / "a", tmp_path / "b"
    root.mkdir()
    there.mkdir()
    os.mknod(root / "gone", stat.S_IFCHR | 0o000, 0)
    (root / "opaque").mkdir()
    os.setxattr(root / "opaque", "trusted.overlay.opaque", b"y")
    (root / "theirs").touch()
    os.chown(root / "theirs", 1234, 5678)
    (root / "theirs").chmod(0o6755)
    unpack(io.BytesIO(b"".join(pack(root))), there)
    assert state(there) == state(root)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(FailedPrecondition, match="device"):
        list(pack(root))


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755
    info.uid, info.gid = os.getuid(), os.getgid()
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


ROOT = entry(".", tarfile.DIRTYPE)
DIRECTORY = entry("d", tarfile.DIRTYPE)


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def attributes(text: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry("f", pax_headers={"ATOLL.entry": text})


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "begin with its root"),
        ([DIRECTORY], "directory of"),
        ([entry(".", tarfile.SYMTYPE, linkname="/tmp")], "root"),
        ([ROOT, ROOT], "root"),
        ([ROOT, entry("/etc/passwd", data=b"x")], "not a path inside"),
        ([ROOT, entry("../escape", data=b"x")], "not a path inside"),
        ([ROOT, DIRECTORY, entry("d/../../escape", data=b"x")], "not a path inside"),
        ([ROOT, entry("./a", data=b"x")], "not a path inside"),
        ([ROOT, DIRECTORY, entry("d//a", data=b"x")], "not a path inside"),
        ([ROOT, entry("/".join("a" * 200))], "not a path inside"),
        ([ROOT, entry("missing/a", data=b"x")], "not before it"),
        ([ROOT, entry("l", tarfile.SYMTYPE, linkname="/tmp"), entry("l/a", data=b"x")], "not before it"),
        ([ROOT, entry("f", data=b"x"), entry("f/a", data=b"x")], "not before it"),
        ([ROOT, entry("f", data=b"x"), entry("f", data=b"y")], "twice"),
        ([ROOT, entry("l", tarfile.SYMTYPE, linkname="/tmp/x"), entry("l", data=b"y")], "twice"),
        ([ROOT, DIRECTORY, entry("d", tarfile.SYMTYPE, linkname="/tmp")], "twice"),
        ([ROOT, entry("h", tarfile.LNKTYPE, linkname="/etc/passwd")], "hard link"),
        ([ROOT, entry("h", tarfile.LNKTYPE, linkname="../../etc/passwd")], "hard link"),
        ([ROOT, DIRECTORY, entry("h", tarfile.LNKTYPE, linkname="d")], "hard link"),
        (
            [ROOT, entry("l", tarfile.SYMTYPE, linkname="/etc/passwd"), entry("h", tarfile.LNKTYPE, linkname="l")],
            "hard",
        ),
        ([ROOT, entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "device"),
        ([ROOT, entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)], "device"),
        ([ROOT, entry("disk", tarfile.BLKTYPE)], "device"),
        ([ROOT, attributes("no json")], "damaged"),
        ([ROOT, attributes("[]")], "damaged"),
        ([ROOT, attributes('{"xattrs": []}')], "damaged"),
        ([ROOT, attributes('{"xattrs": {"user.a": 1}}')], "damaged"),
        ([ROOT, attributes('{"xattrs": {"user.a": "!"}}')], "damaged"),
        ([ROOT, attributes('{"mtime_ns": "now"}')], "time"),
        ([ROOT, attributes(json.dumps({"mtime_ns": 1 << 70}))], "time"),
        ([ROOT, attributes(json.dumps({"x": "y" * 300_000}))], "too large"),
    ],
)
def test_what_is_refused(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], reason: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidArgument, match=reason):
        unpack(io.BytesIO(tar_of(*entries)), root)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


@pytest.mark.parametrize("damage", [_flip, _cut])
def test_damaged_tars_write_nothing_outside(tmp_path: Path, damage: Callable[[bytearray, random.Random], None]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "d").mkdir()
    (source / "d/f").write_text("x")
    (source / "l").symlink_to("d")
    good = b"".join(pack(source))
    chance = random.Random(11)
    for number in range(150):
        bad = bytearray(good)
        damage(bad, chance)
        root = tmp_path / "box" / str(number)
        root.mkdir(parents=True)
        try:
            unpack(io.BytesIO(bytes(bad)), root)
        except (InvalidArgument, OSError):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"source", "box"}
        shutil.rmtree(root)
