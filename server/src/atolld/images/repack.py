"""A layer of overlayfs as a layer of an image: the way back of `unpack`.

The same files always give the same bytes: entries in the order of their paths, times as they are, no names of owners.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition
from atolld.images.tree import OPAQUE, is_whiteout

_READ_BYTES = 1 << 20
_OVERLAY = "trusted.overlay."
_ENTRY = {"encoding": "utf-8", "errors": "surrogateescape"}


def repack(root: Path) -> Iterator[bytes]:
    """The tar of the files below `root`, which nobody changes meanwhile. Blocks.

    Raises FailedPrecondition on a device or socket, OSError.
    """
    seen: dict[tuple[int, int], str] = {}
    for name, path in _walk(root):
        status = path.lstat()
        if is_whiteout(status):
            parent, _, base = name.rpartition("/")
            yield from _mark(f"{parent}/.wh.{base}" if parent else f".wh.{base}")
            continue
        info = _describe(name, path, status)
        if info.isreg() and status.st_nlink > 1:
            first = seen.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        yield info.tobuf(tarfile.PAX_FORMAT, **_ENTRY)
        if info.isreg():
            yield from _contents(path, info.size)
        elif info.isdir() and _attributes(path).get(OPAQUE) == b"y":
            yield from _mark(".wh..wh..opq" if name == "." else f"{name}/.wh..wh..opq")
    yield bytes(2 * tarfile.BLOCKSIZE)


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    stack = [(".", root)]
    while stack:
        name, path = stack.pop()
        yield name, path
        if path.is_dir() and not path.is_symlink():
            inside = sorted(os.listdir(path), key=os.fsencode, reverse=True)
            stack += [(one if name == "." else f"{name}/{one}", path / one) for one in inside]


def _mark(name: str) -> Iterator[bytes]:
    yield tarfile.TarInfo(name).tobuf(tarfile.PAX_FORMAT, **_ENTRY)


def _describe(name: str, path: Path, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.mtime = status.st_mtime_ns // 10**9
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        info.type, info.size = tarfile.REGTYPE, status.st_size
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        raise FailedPrecondition(f"{name!r} is a device or socket, which no image takes")
    headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in sorted(_attributes(path).items())
        if not key.startswith(_OVERLAY)
    }
    if fraction := status.st_mtime_ns % 10**9:
        headers["mtime"] = f"{status.st_mtime_ns // 10**9}.{fraction:09d}"
    info.pax_headers = headers
    return info


def _attributes(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _contents(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb", buffering=0) as file:
        while left:
            data = file.read(min(_READ_BYTES, left))
            if not data:
                raise OSError(errno.EIO, f"{path} became shorter while it was read")
            left -= len(data)
            yield data
    yield bytes(-size % tarfile.BLOCKSIZE)
