"""What every tar of a layer is written with: the same files always give the same entries, in the same order."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from atolld.foundation.errors import FailedPrecondition

# Names and attributes are bytes to the file system, and come back as such.
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}
END = bytes(2 * tarfile.BLOCKSIZE)
_READ_BYTES = 1 << 20


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Every path below `root` and `root` itself (as `.`), in order of names, a directory before what is in it."""
    stack = [(".", root)]
    while stack:
        name, path = stack.pop()
        yield name, path
        if path.is_dir() and not path.is_symlink():
            inside = sorted(os.listdir(path), key=os.fsencode, reverse=True)
            stack += [(one if name == "." else f"{name}/{one}", path / one) for one in inside]


def entry(name: str, path: Path, status: os.stat_result, kinds: dict[int, bytes] | None = None) -> tarfile.TarInfo:
    """The entry of one file, without names of owners; PAX headers are the caller's.

    `kinds`: entry types of further kinds of files (`S_IFMT`). Raises FailedPrecondition on any other kind, OSError.
    """
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
    elif kinds is not None and kind in kinds:
        info.type = kinds[kind]
    else:
        raise FailedPrecondition(f"{name!r} is a device or socket, which is put into no archive")
    return info


def attributes(path: Path) -> dict[str, bytes]:
    """Its extended attributes, by name; a link's own."""
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def contents(path: Path, size: int) -> Iterator[bytes]:
    """The file's bytes and what fills the last block. Raises OSError, also when there are fewer."""
    left = size
    with path.open("rb", buffering=0) as file:
        while left:
            data = file.read(min(_READ_BYTES, left))
            if not data:
                raise OSError(errno.EIO, f"{path} became shorter while it was read")
            left -= len(data)
            yield data
    yield bytes(-size % tarfile.BLOCKSIZE)
