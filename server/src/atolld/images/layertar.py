"""A layer's files as one tar, the same bytes for the same files, and back.

A PAX tar in the order of the paths, parents first, as GNU tar reads it too. Owners, modes, times to the nanosecond,
hard links, symbolic links, whiteouts of overlayfs and extended attributes come back exactly: a restored guest looks at
its open files' sizes and times again. Beyond PAX there is one field, `ATOLL.entry`: a JSON object with `mtime_ns` and
`xattrs` (name to base64).

Unpacking trusts nothing: see `unpack`.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from atolld.foundation.errors import InvalidArgument
from atolld.images.tarwriting import ENCODING, END, attributes, contents, entry, walk

MAX_ENTRIES = 4_000_000
MAX_DEPTH = 128
_READ_BYTES = 1 << 20
_FIELD = "ATOLL.entry"
_MAX_FIELD = 256 << 10
_BLOCK = tarfile.BLOCKSIZE


def pack(root: Path) -> Iterator[bytes]:
    """The tar of the files below `root`, which nobody changes meanwhile. Blocks.

    Raises FailedPrecondition on a socket or a device file that is no whiteout, OSError.
    """
    seen: dict[tuple[int, int], str] = {}
    for name, path in walk(root):
        status = path.lstat()
        info = _describe(name, path, status)
        if info.isreg() and status.st_nlink > 1:
            first = seen.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
                info.pax_headers = {}
        yield info.tobuf(tarfile.PAX_FORMAT, **ENCODING)
        if info.isreg():
            yield from contents(path, info.size)
    yield END


def _describe(name: str, path: Path, status: os.stat_result) -> tarfile.TarInfo:
    whiteout = {stat.S_IFCHR: tarfile.CHRTYPE} if status.st_rdev == 0 else None
    info = entry(name, path, status, whiteout)
    xattrs = {key: base64.b64encode(value).decode("ascii") for key, value in attributes(path).items()}
    info.pax_headers = {_FIELD: json.dumps({"mtime_ns": status.st_mtime_ns, "xattrs": xattrs}, sort_keys=True)}
    return info


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry whose form was checked."""

    path: Path
    mtime_ns: int
    xattrs: dict[str, bytes]


def unpack(file: IO[bytes], root: Path) -> None:
    """Fill the empty directory `root` from a tar that `pack` wrote. Blocks.

    Every entry's parent must be a directory that this very tar made, so no link is ever followed and nothing is written
    outside; absolute paths, `..`, a path that comes twice, hard links to anything but a regular file of the same tar,
    and devices other than whiteouts are refused. The caller removes what a failure leaves.

    Raises InvalidArgument, OSError.
    """
    try:
        _Unpacking(root).run(file)
    except (tarfile.TarError, ValueError, UnicodeError, EOFError) as error:
        raise InvalidArgument(f"the archive is damaged: a layer is no proper tar: {error}") from None


class _Unpacking:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._directories: dict[str, tuple[tarfile.TarInfo, _Place]] = {}
        self._files: set[str] = set()
        self._names: set[str] = set()

    def run(self, file: IO[bytes]) -> None:
        with tarfile.open(fileobj=file, mode="r|", **ENCODING) as tar:  # type: ignore[call-overload]
            for info in tar:
                # tarfile keeps every member it has seen, which for a large layer is a lot.
                tar.members = []
                self._one(tar, info)
        if "." not in self._directories:
            raise ValueError("it does not begin with its root")
        # Last, the deepest first: making what is in a directory changes its times.
        for info, place in reversed(self._directories.values()):
            _finish(info, place)

    def _one(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        name = info.name
        place = self._place(info)
        if info.isdir():
            if name != ".":
                place.path.mkdir(mode=0o700)
            self._directories[name] = (info, place)
            return
        if info.islnk():
            if info.linkname not in self._files:
                raise ValueError(f"{name!r} is a hard link to {info.linkname!r}, which is no file before it")
            os.link(self._root / info.linkname, place.path, follow_symlinks=False)
            return
        if info.isreg() and not info.issparse():
            self._files.add(name)
            _write(tar, info, place.path)
        elif info.issym():
            os.symlink(info.linkname, place.path)
        elif info.isfifo():
            os.mkfifo(place.path, 0o600)
        elif info.type == tarfile.CHRTYPE and (info.devmajor, info.devminor) == (0, 0):
            os.mknod(place.path, stat.S_IFCHR | 0o600, 0)
        else:
            raise ValueError(f"{name!r} is a device or something else that a layer cannot hold")
        _finish(info, place)

    def _place(self, info: tarfile.TarInfo) -> _Place:
        name = info.name
        parts = name.split("/")
        if name == ".":
            if self._names or not info.isdir():
                raise ValueError("its root is not the first entry")
        elif any(part in ("", ".", "..") for part in parts) or len(parts) > MAX_DEPTH or "\0" in name:
            raise ValueError(f"{name[:80]!r} is not a path inside the layer")
        elif ("/".join(parts[:-1]) or ".") not in self._directories:
            raise ValueError(f"the directory of {name[:80]!r} is not before it")
        if name in self._names or len(self._names) >= MAX_ENTRIES:
            raise ValueError(f"{name[:80]!r} is there twice, or there are more than {MAX_ENTRIES} entries")
        self._names.add(name)
        extra = info.pax_headers.get(_FIELD, "{}")
        if len(extra) > _MAX_FIELD:
            raise ValueError(f"the attributes of {name[:80]!r} are too large")
        fields = json.loads(extra)
        if not isinstance(fields, dict) or not isinstance(fields.get("xattrs", {}), dict):
            raise ValueError(f"the attributes of {name[:80]!r} are damaged")
        mtime_ns = fields.get("mtime_ns", int(info.mtime) * 10**9)
        if isinstance(mtime_ns, bool) or not isinstance(mtime_ns, int) or abs(mtime_ns) >= 1 << 63:
            raise ValueError(f"the time of {name[:80]!r} is damaged")
        return _Place(self._root / name, mtime_ns, _xattrs(fields.get("xattrs", {})))


def _xattrs(fields: dict[str, object]) -> dict[str, bytes]:
    found = {}
    for key, value in fields.items():
        if not isinstance(value, str) or "\0" in key:
            raise ValueError("an extended attribute is damaged")
        try:
            found[key] = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"an extended attribute is damaged: {error}") from None
    return found


def _write(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(info)
    assert source is not None
    left = info.size
    with io.FileIO(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w"
    ) as file:
        while left:
            data = source.read(min(_READ_BYTES, left))
            if not data:
                raise ValueError(f"{info.name!r} is cut off")
            left -= len(data)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]


def _finish(info: tarfile.TarInfo, place: _Place) -> None:
    # Owner before mode and attributes: the kernel takes set-user-id and capabilities away with a change of owner.
    os.chown(place.path, info.uid, info.gid, follow_symlinks=False)
    if not info.issym():
        os.chmod(place.path, stat.S_IMODE(info.mode))
    for key, value in place.xattrs.items():
        os.setxattr(place.path, key, value, follow_symlinks=False)
    os.utime(place.path, ns=(place.mtime_ns, place.mtime_ns), follow_symlinks=False)
