from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import threading
import tracemalloc
from pathlib import Path

import pytest

from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.images.tree import OPAQUE
from atolld.images.unpack import Cancelled, Unpacked, unpack

from .tars import entry, folder, hard, link, tar

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    made = tmp_path / "layer" / "root"
    made.mkdir(parents=True)
    return made


def put(root: Path, *entries: Entry, lower: tuple[Path, ...] = ()) -> Unpacked:
    return unpack(io.BytesIO(tar(*entries)), root, lower, reserve_bytes=0)


def with_pax(one: Entry, **headers: str) -> Entry:
    one[0].pax_headers = headers
    return one


HOSTILE: list[tuple[str, list[Entry], str]] = [
    ("absolute", [entry("/etc/passwd", data=b"x")], "absolute"),
    ("dots", [entry("../outside", data=b"x")], "leads out"),
    ("dots inside", [folder("a"), entry("a/../../outside", data=b"x")], "leads out"),
    ("through a link", [link("a", "/tmp"), entry("a/b", data=b"x")], "through the link 'a'"),
    ("through a link up", [link("a", "../.."), entry("a/outside", data=b"x")], "through the link"),
    ("through a link below", [folder("d"), link("d/a", "."), entry("d/a/b", data=b"x")], "through the link"),
    ("whiteout through a link", [link("a", "/tmp"), entry("a/.wh.b")], "through the link"),
    ("directory through a link", [link("a", "/"), folder("a/b")], "through the link"),
    ("hard link out", [hard("a", "../../outside")], "leads out"),
    ("hard link absolute", [hard("a", "/etc/shadow")], "absolute"),
    ("hard link through a link", [link("d", "/etc"), hard("a", "d/shadow")], "not a directory of this layer"),
    ("hard link to nothing", [hard("a", "b")], "no file of this layer"),
    ("hard link to itself", [entry("a"), hard("a", "a")], "itself"),
    ("hard link to a directory", [folder("d"), hard("a", "d")], "no file of this layer"),
    ("through a file", [entry("a", data=b"x"), entry("a/b", data=b"x")], "a file and a directory"),
    ("character device", [entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "device node"),
    ("block device", [entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)], "device node"),
    ("forged whiteout", [entry("gone", tarfile.CHRTYPE)], "device node"),
    ("overlay attribute", [with_pax(folder("d"), **{f"SCHILY.xattr.{OPAQUE}": "y"})], "trusted"),
    ("redirect", [with_pax(folder("d"), **{"SCHILY.xattr.trusted.overlay.redirect": "/x"})], "trusted"),
    ("whiteout of nothing", [entry(".wh.")], "deletes nothing"),
    ("whiteout of the parent", [entry(".wh...")], "deletes nothing"),
    ("unknown kind", [entry("x", b"Q")], "kind"),
    ("root as a file", [entry(".", data=b"x")], "root is no directory"),
    ("long name", [entry("n" * 300)], "name that no file can have"),
    ("too deep", [entry("d/" * 200 + "f")], "too deep"),
    ("NUL", [with_pax(entry("a"), path="a\0b")], "name"),
    ("owner", [with_pax(entry("a"), uid="-1")], "owner"),
    ("sparse", [with_pax(entry("a", data=b"x"), **{"GNU.sparse.map": "0,1"})], "sparse"),
    ("large attribute", [with_pax(entry("a"), comment="x" * (2 << 20))], "extended headers"),
]


@pytest.mark.parametrize(("entries", "reason"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_layers_are_refused(root: Path, entries: list[Entry], reason: str) -> None:
    before = {path: path.lstat().st_mtime_ns for path in root.parent.parent.iterdir() if path.is_file()}
    with pytest.raises(InvalidArgument, match=reason):
        put(root, *entries)
    assert {path: path.lstat().st_mtime_ns for path in root.parent.parent.iterdir() if path.is_file()} == before
    assert (root.parent.parent / "outside").read_text() == "untouched"
    assert [path.name for path in root.parent.iterdir()] == ["root"]


def test_a_damaged_tar_is_refused(root: Path) -> None:
    whole = tar(entry("a", data=b"x" * 5000), entry("b", data=b"y"))
    for broken in (whole[:3000], whole[:5632] + b"\xff" * 512 + whole[6144:], b"no tar at all", b""):
        with pytest.raises(InvalidArgument, match="refused"):
            unpack(io.BytesIO(broken), root, reserve_bytes=0)
    assert put(root, entry("c")).entries == 1


def test_an_endless_header_takes_no_memory(root: Path) -> None:
    info, _ = entry("x", tarfile.XHDTYPE)
    info.size = 8 << 30

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size) or bytes(min(size or 0, 1 << 16))

    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="extended headers"):
            unpack(Endless(info.tobuf(tarfile.GNU_FORMAT)), root, reserve_bytes=0)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_headers_upon_headers_are_refused(root: Path) -> None:
    one = entry("x", tarfile.XHDTYPE)[0].tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(InvalidArgument, match="extended headers"):
        unpack(io.BytesIO(one * 3000), root, reserve_bytes=0)


def test_a_limit_of_entries(root: Path) -> None:
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        unpack(io.BytesIO(tar(*(entry(str(n)) for n in range(11)))), root, max_entries=10, reserve_bytes=0)


def test_a_full_disk_and_a_stop_end_it(root: Path) -> None:
    with pytest.raises(Capacity, match="does not fit"):
        unpack(io.BytesIO(tar(entry("a"))), root, reserve_bytes=1 << 62)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        unpack(io.BytesIO(tar(entry("a"))), root, reserve_bytes=0, stop=stop)


def test_an_ordinary_layer(root: Path) -> None:
    done = put(
        root,
        folder("./", mode=0o755, mtime=5),
        folder("./usr/", mode=0o1777, mtime=7),
        with_pax(entry("usr/tool", data=b"#!", mode=0o4755), mtime="1700000000.5", **{"SCHILY.xattr.user.a": "b"}),
        hard("usr/same", "usr/tool"),
        link("bin", "/usr/../../../etc"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("usr/" + "n" * 200, data=b"long"),
        entry("usr/caf\udce9", data=b"not UTF-8"),
    )
    assert (done.depends, done.entries) == (False, 8)
    tool = (root / "usr/tool").stat()
    assert (stat.S_IMODE(tool.st_mode), tool.st_nlink, tool.st_mtime_ns) == (0o4755, 2, 1_700_000_000_500_000_000)
    assert os.getxattr(root / "usr/tool", "user.a") == b"b"
    assert os.readlink(root / "bin") == "/usr/../../../etc"
    assert stat.S_IMODE((root / "usr").stat().st_mode) == 0o1777
    # The times of directories are theirs, not those of what was made in them.
    assert [(root / name).stat().st_mtime for name in ("", "usr")] == [5, 7]
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)
    assert (root / os.fsdecode(b"usr/caf\xe9")).read_bytes() == b"not UTF-8"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("a", data=b"1"), entry("a", data=b"22")], b"22"),
        ([link("a", "/etc/passwd"), entry("a", data=b"22")], b"22"),
        ([folder("a"), entry("a/b"), entry("a", data=b"22")], b"22"),
    ],
)
def test_the_later_entry_of_a_name_counts(root: Path, entries: list[Entry], expected: bytes) -> None:
    put(root, *entries)
    assert (root / "a").read_bytes() == expected


def test_a_whiteout_is_what_overlayfs_wants(root: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "d").mkdir(parents=True)
    put(root, folder("d"), entry("d/.wh.gone"), entry("kept"), entry(".wh.kept"), entry(".wh..wh.plnk"), lower=(lower,))
    gone = (root / "d/gone").lstat()
    assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
    # What is in the same layer is not what is deleted.
    assert (root / "kept").is_file()
    assert sorted(os.listdir(root)) == ["d", "kept"]


def test_directories_that_nobody_named_are_as_below(root: Path, tmp_path: Path) -> None:
    lower, lowest = tmp_path / "lower", tmp_path / "lowest"
    for below, mode in ((lower, 0o1777), (lowest, 0o700)):
        (below / "tmp/x").mkdir(parents=True)
        (below / "tmp").chmod(mode)
    (lowest / "opt").mkdir()
    (lowest / "opt").chmod(0o750)
    os.setxattr(lower / "tmp", "user.note", b"n")
    done = put(root, folder("."), entry("tmp/f"), entry("opt/f"), entry("new/f"), lower=(lower, lowest))
    assert done.depends
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("tmp", "opt", "new")}
    assert modes == {"tmp": 0o1777, "opt": 0o750, "new": 0o755}
    assert os.getxattr(root / "tmp", "user.note") == b"n"


def test_a_link_below_is_not_written_through_either(root: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "bin").symlink_to("/etc")
    with pytest.raises(InvalidArgument, match="link in a layer below"):
        put(root, entry("bin/x"), lower=(lower,))
    # Named, it takes the link's place.
    put(root, folder("bin"), entry("bin/x"), lower=(lower,))
    assert (root / "bin/x").is_file()


@pytest.mark.real
def test_opaque_directories(root: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "a").mkdir(parents=True)
    put(
        root,
        folder("a"),
        entry("a/.wh..wh..opq"),
        entry(".wh.b"),
        folder("b"),
        folder("c"),
        entry(".wh.c"),
        entry(".wh.d"),
        entry("d/f"),
        folder("e", uid=1234, gid=99),
        lower=(lower,),
    )
    for name in "abcd":
        assert os.getxattr(root / name, OPAQUE) == b"y"
    assert (root / "e").stat().st_uid == 1234


@pytest.mark.real
def test_capabilities_and_owners_come_back(root: Path) -> None:
    raw = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)
    info, data = entry("ping", data=b"x", uid=7, gid=8, mode=0o755)
    info.pax_headers = {"SCHILY.xattr.security.capability": raw.decode("utf-8", "surrogateescape")}
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    unpack(io.BytesIO(header + data + bytes(511) + bytes(1024)), root, reserve_bytes=0)
    assert os.getxattr(root / "ping", "security.capability") == raw
    assert ((root / "ping").stat().st_uid, (root / "ping").stat().st_gid) == (7, 8)
