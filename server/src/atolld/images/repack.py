"""A layer of overlayfs as a layer of an image: the way back of `unpack`.

The same files always give the same bytes: entries in the order of their paths, times as they are, no names of owners.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from atolld.images.tarwriting import ENCODING, END, attributes, contents, entry, walk
from atolld.images.tree import OPAQUE, is_whiteout

_OVERLAY = "trusted.overlay."


def repack(root: Path) -> Iterator[bytes]:
    """The tar of the files below `root`, which nobody changes meanwhile. Blocks.

    Raises FailedPrecondition on a device or socket, OSError.
    """
    seen: dict[tuple[int, int], str] = {}
    for name, path in walk(root):
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
        yield info.tobuf(tarfile.PAX_FORMAT, **ENCODING)
        if info.isreg():
            yield from contents(path, info.size)
        elif info.isdir() and attributes(path).get(OPAQUE) == b"y":
            yield from _mark(".wh..wh..opq" if name == "." else f"{name}/.wh..wh..opq")
    yield END


def _mark(name: str) -> Iterator[bytes]:
    yield tarfile.TarInfo(name).tobuf(tarfile.PAX_FORMAT, **ENCODING)


def _describe(name: str, path: Path, status: os.stat_result) -> tarfile.TarInfo:
    info = entry(name, path, status)
    headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in attributes(path).items()
        if not key.startswith(_OVERLAY)
    }
    if fraction := status.st_mtime_ns % 10**9:
        headers["mtime"] = f"{status.st_mtime_ns // 10**9}.{fraction:09d}"
    info.pax_headers = headers
    return info
