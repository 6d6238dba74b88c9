"""A layer of an image, as a tar that nobody vouches for, into a directory that overlayfs takes as a lower layer.

    .wh.<name>        becomes a character device 0:0 called <name>
    .wh..wh..opq      becomes trusted.overlay.opaque=y on its directory

Refused: absolute paths and `..`, writing through a link, hard links to anything but a file of the same layer, device
nodes, attributes of the overlay, more than a million entries, and what would fill the disk.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from atolld.foundation.errors import Capacity, InvalidArgument
from atolld.images import untar
from atolld.images.tree import OPAQUE, Refused, Tree, is_whiteout, remove, split, status_of

MAX_ENTRIES = 1_000_000
MAX_DIRECTORIES = 250_000
RESERVE_BYTES = 512 << 20
RESERVE_FILES = 10_000
_CHECK_EVERY_BYTES = 32 << 20
_CHECK_EVERY_ENTRIES = 2_000
_READ_BYTES = 1 << 20
_MAX_ID = 2**32 - 2
_MAX_TIME_NS = 2**34 * 10**9
_WHITEOUT, _META, _OPAQUE_MARK = ".wh.", ".wh..wh.", ".wh..wh..opq"
_TIME = re.compile(r"-?\d{1,12}(?:\.\d{1,30})?")
_XATTR = "SCHILY.xattr."
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """`depends`: the result holds for these lower layers only, see `Tree`. `entries`: in the tar."""

    depends: bool
    entries: int


class Cancelled(Exception):
    """The caller asked to stop."""


def unpack(
    stream: untar.Readable,
    root: Path,
    lower: Sequence[Path] = (),
    *,
    max_entries: int = MAX_ENTRIES,
    reserve_bytes: int = RESERVE_BYTES,
    stop: threading.Event | None = None,
    whiteouts: bool = True,
) -> Unpacked:
    """Fill the empty directory `root`. Blocks. The caller removes what a failure leaves.

    `lower`: roots of the layers below, the topmost first. `reserve_bytes`: what must stay free on the disk.
    `whiteouts` False: the tar is no layer, and a file called `.wh.x` is one like others.
    Raises InvalidArgument with the reason when it is refused, Capacity when the disk is full, Cancelled, OSError.
    """
    tree = Tree(root, lower)
    try:
        return _Unpacking(tree, bool(lower), max_entries, reserve_bytes, stop, whiteouts).run(stream)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise InvalidArgument(f"a layer is refused: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Capacity("the disk became full while a layer was unpacked") from None
        if error.errno in (errno.EMLINK, errno.ENAMETOOLONG, errno.EINVAL, errno.E2BIG, errno.ERANGE):
            raise InvalidArgument(f"a layer is refused: it holds what this file system cannot: {error}") from None
        raise
    finally:
        tree.close()


class _Unpacking:
    def __init__(
        self,
        tree: Tree,
        has_lower: bool,
        max_entries: int,
        reserve_bytes: int,
        stop: threading.Event | None,
        whiteouts: bool,
    ) -> None:
        self._tree = tree
        self._has_lower = has_lower
        self._max_entries = max_entries
        self._reserve_bytes = reserve_bytes
        self._stop = stop
        self._whiteouts = whiteouts
        self._entries = 0
        self._unchecked_bytes = 0
        self._depends = False
        self._root_named = False
        # Set last: making what is in a directory changes its times.
        self._times: dict[str, int] = {}

    def run(self, stream: untar.Readable) -> Unpacked:
        self._check()
        for tar, info in untar.entries(stream):
            self._entries += 1
            if self._entries > self._max_entries:
                raise Refused(f"it has more than {self._max_entries} entries")
            if self._entries % _CHECK_EVERY_ENTRIES == 0:
                self._check()
            self._one(tar, info)
        if not self._root_named:
            self._tree.imply_root()
        for path, mtime_ns in self._times.items():
            self._set_time(path, mtime_ns)
        return Unpacked(self._depends or self._tree.depends, self._entries)

    def _one(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        names = split(info.name)
        _check_owner(info)
        if not names:
            if not info.isdir():
                raise Refused("its root is no directory")
            self._root_named = True
            self._finish(self._tree.root, info)
            self._times[""] = _mtime_ns(info)
            return
        parent, name = self._tree.enter(names[:-1]), names[-1]
        if self._whiteouts and name.startswith(_WHITEOUT):
            self._white_out(name, parent)
        elif info.isdir():
            self._directory(info, names, parent)
        else:
            source = split(info.linkname) if info.islnk() else None
            if source == names:
                raise Refused(f"{info.name[:120]!r} is a hard link to itself")
            remove(name, parent)
            self._file(tar, info, name, parent, source)

    def _white_out(self, name: str, parent: int) -> None:
        if name == _OPAQUE_MARK:
            os.setxattr(parent, OPAQUE, b"y")
            return
        if name.startswith(_META):
            # Notes that aufs left for itself.
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Refused(f"{name!r} deletes nothing that can be")
        status = status_of(hidden, parent)
        if status is not None and stat.S_ISDIR(status.st_mode):
            # What is in this layer stays, what is below it goes.
            _make_opaque(hidden, parent)
        elif status is None and self._has_lower:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        elif status is None:
            # Nothing is below to be deleted, and at the bottom the mark could be seen.
            self._depends = True

    def _directory(self, info: tarfile.TarInfo, names: list[str], parent: int) -> None:
        name = names[-1]
        status = status_of(name, parent)
        if status is None or not stat.S_ISDIR(status.st_mode):
            remove(name, parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            if status is not None and is_whiteout(status):
                _make_opaque(name, parent)
        self._finish(self._tree.enter(names), info)
        if len(self._times) >= MAX_DIRECTORIES:
            raise Refused(f"it has more than {MAX_DIRECTORIES} directories")
        self._times["/".join(names)] = _mtime_ns(info)

    def _file(
        self, tar: tarfile.TarFile, info: tarfile.TarInfo, name: str, parent: int, source: list[str] | None
    ) -> None:
        if source is not None:
            self._hard_link(info, name, parent, source)
        elif info.isreg():
            self._regular(tar, info, name, parent)
        elif info.issym() or info.isfifo():
            if info.issym():
                os.symlink(info.linkname, name, dir_fd=parent)
            else:
                os.mkfifo(name, 0o600, dir_fd=parent)
            os.chown(name, info.uid, info.gid, dir_fd=parent, follow_symlinks=False)
            if info.isfifo():
                os.chmod(name, stat.S_IMODE(info.mode), dir_fd=parent)
            os.utime(name, ns=(_mtime_ns(info),) * 2, dir_fd=parent, follow_symlinks=False)
        elif info.ischr() or info.isblk():
            raise Refused(f"{info.name[:120]!r} is a device node; images may have none")
        else:
            raise Refused(f"{info.name[:120]!r} is of the kind {info.type!r}, which no layer holds")

    def _hard_link(self, info: tarfile.TarInfo, name: str, parent: int, source: list[str]) -> None:
        reason = f"{info.name[:120]!r} is a hard link to {info.linkname[:120]!r}, which is no file of this layer"
        if not source:
            raise Refused(reason)
        directory = self._tree.find(source[:-1])
        try:
            status = status_of(source[-1], directory)
            if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise Refused(reason)
            os.link(source[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _regular(self, tar: tarfile.TarFile, info: tarfile.TarInfo, name: str, parent: int) -> None:
        source = tar.extractfile(info)
        if source is None or info.size < 0:
            raise Refused(f"{info.name[:120]!r} has no contents")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            left = info.size
            while left:
                data = source.read(min(_READ_BYTES, left))
                if not data:
                    raise Refused(f"{info.name[:120]!r} is cut off")
                left -= len(data)
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                self._unchecked_bytes += len(data)
                if self._unchecked_bytes >= _CHECK_EVERY_BYTES:
                    self._check()
            self._finish(file.fileno(), info)
            os.utime(file.fileno(), ns=(_mtime_ns(info),) * 2)

    def _finish(self, descriptor: int, info: tarfile.TarInfo) -> None:
        # Owner before mode and attributes: the kernel takes set-user-id and capabilities away with a change of owner.
        os.chown(descriptor, info.uid, info.gid)
        os.chmod(descriptor, stat.S_IMODE(info.mode))
        for key, value in info.pax_headers.items():
            if key.startswith(_XATTR):
                _set_xattr(descriptor, key.removeprefix(_XATTR), value)

    def _set_time(self, path: str, mtime_ns: int) -> None:
        try:
            descriptor = self._tree.find(split(path))
        except Refused:
            # Replaced by a later entry.
            return
        try:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(descriptor)

    def _check(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Cancelled
        self._unchecked_bytes = 0
        check_room(self._tree.root, self._reserve_bytes)


def check_room(directory: int, reserve_bytes: int) -> None:
    """Raises Capacity when less than the reserve is free, in bytes or files, on the file system of `directory`."""
    space = os.statvfs(directory)
    # Some file systems have no fixed number of files and say 0.
    few_files = space.f_files and space.f_favail < max(RESERVE_FILES, space.f_files // 50)
    if space.f_bavail * space.f_frsize < reserve_bytes or few_files:
        raise Capacity("a layer does not fit: the disk would become full; 'atoll image prune' frees what nobody uses")


def _make_opaque(name: str, parent: int) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.setxattr(descriptor, OPAQUE, b"y")
    finally:
        os.close(descriptor)


def _check_owner(info: tarfile.TarInfo) -> None:
    if not (0 <= info.uid <= _MAX_ID and 0 <= info.gid <= _MAX_ID):
        raise Refused(f"{info.name[:120]!r} has an owner that no file can have")


def _mtime_ns(info: tarfile.TarInfo) -> int:
    exact = info.pax_headers.get("mtime")
    try:
        # Only so many digits: `1e999999` is a number too.
        found = int(Decimal(exact) * 10**9) if exact and _TIME.fullmatch(exact) else int(info.mtime) * 10**9
    except (ValueError, OverflowError):
        raise Refused(f"{info.name[:120]!r} has no proper time") from None
    return min(max(found, 0), _MAX_TIME_NS)


def _set_xattr(descriptor: int, key: str, value: str) -> None:
    if key.startswith("trusted."):
        raise Refused(f"it sets the attribute {key[:80]!r}, which belongs to the host's overlay")
    if key.startswith(_KEPT_XATTRS) and "\0" not in key:
        # Others, as those of SELinux, mean something on the machine that made the image.
        os.setxattr(descriptor, key, value.encode("utf-8", "surrogateescape"))
