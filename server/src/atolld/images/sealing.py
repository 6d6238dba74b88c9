"""What a sandbox changed, as a layer: the overlay's upper directory, less what the runtime itself puts there.

A layer holds whole directories: one that the sandbox renamed, of which overlayfs keeps only where it was, is copied
from the sandbox's own view. So it means the same over the same layers, in an archive, and to an engine that knows
nothing of overlayfs's redirects.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import Capacity, FailedPrecondition
from atolld.foundation.units import MIB
from atolld.images.budget import LayerBudget
from atolld.images.filecopy import (
    KEPT_XATTRS,
    READ_FLAGS,
    WRITE_FLAGS,
    Attributes,
    copy_data,
    copy_special,
    holds_any,
    kept_attributes,
)
from atolld.images.tree import MAX_DEPTH, OPAQUE, Refused, directory_in, is_whiteout
from atolld.images.unpack import RESERVE_BYTES

_REDIRECT = "trusted.overlay.redirect"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SEARCH_LIMIT = 16 * MIB

# What the drivers mount over, with whatever is made there for it, and what the node and the agent write.
_OURS = frozenset(
    {(".atoll",), ("dev",), ("proc",), ("sys",), ("etc", "resolv.conf"), ("run", "e2b"), ("run", ".atoll")}
)
# What apt makes anew when it is not there: large, and never twice the same.
_NEEDLESS = frozenset({("var", "cache", "apt", "pkgcache.bin"), ("var", "cache", "apt", "srcpkgcache.bin")})
# Directories that are made where an image lacks them; the last one so that gVisor mounts nothing over /tmp.
_MADE = {("tmp",): 0o1777, ("run",): 0o755, ("etc",): 0o755, ("tmp", ".X11-unix"): 0o755}
# Where programs note what they fetched and from where; a layer can do without.
_CACHES = frozenset({"_cacache", ".npm", ".cache", "_logs"})
_CACHE_PLACES = (("var", "cache"), ("var", "log"), ("var", "lib", "apt", "lists"))


@dataclass(frozen=True, slots=True)
class Upper:
    """A sandbox whose processes have ended. `changed`: its upper directory. `view`: its root file system, still
    mounted. `lower`: roots of the layers below, the topmost first."""

    changed: Path
    view: Path
    lower: Sequence[Path]


def seal(
    upper: Upper,
    root: Path,
    *,
    forbidden: Sequence[str] = (),
    reserve_bytes: int = RESERVE_BYTES,
    stop: threading.Event | None = None,
) -> int:
    """Fill the empty directory `root` with what a sandbox changed; returns the number of entries, 0 for no change.

    A directory that differs from what is below in nothing but its time is no change; sockets and devices are left out.
    `forbidden`: texts that must not be in any file: caches that hold one are left out. Blocks. The caller removes what
    a failure leaves.

    Raises FailedPrecondition when another file holds one of `forbidden`, or there is more than a layer may have;
    Capacity when the disk is full, Cancelled, OSError.
    """
    target = os.open(root, _OPEN)
    try:
        budget = LayerBudget(target, FailedPrecondition, reserve_bytes, stop)
        return _Sealing(upper, target, [text.encode() for text in forbidden if text], budget).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Capacity("the disk became full while what a sandbox changed was stored") from None
        raise
    finally:
        os.close(target)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is. `is_view`: in the sandbox's view, below a renamed directory. `is_new`: nothing of the layers
    below shows here."""

    is_view: bool = False
    is_new: bool = False


class _Sealing:
    def __init__(self, upper: Upper, root: int, needles: Sequence[bytes], budget: LayerBudget) -> None:
        self._upper = upper
        self._root = root
        self._needles = needles
        self._budget = budget
        # First name of each file that has several; a name is the path from the root.
        self._links: dict[tuple[int, int], tuple[str, ...]] = {}

    def run(self) -> int:
        source = os.open(self._upper.changed, _OPEN)
        try:
            self._budget.check()
            self._contents(source, self._root, (), _Place())
            self._finish_root(source)
        finally:
            os.close(source)
        return self._budget.entries

    def _contents(self, source: int, target: int, names: tuple[str, ...], place: _Place) -> None:
        if len(names) >= MAX_DEPTH:
            raise FailedPrecondition(
                f"/{'/'.join(names[:8])}/... is nested deeper than {MAX_DEPTH} directories, which no layer holds"
            )
        for name in sorted(os.listdir(source), key=os.fsencode):
            path = (*names, name)
            if path in _OURS or path in _NEEDLESS:
                continue
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._directory(source, target, path, status, place)
            elif stat.S_ISREG(status.st_mode):
                self._file(source, target, path, status)
            elif is_whiteout(status):
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=target)
                self._budget.entry()
            elif copy_special(name, source, target, name, Attributes.of(status)):
                self._budget.entry()

    def _directory(
        self, source: int, target: int, path: tuple[str, ...], status: os.stat_result, place: _Place
    ) -> None:
        changed = os.open(path[-1], _OPEN, dir_fd=source)
        try:
            redirected = not place.is_view and _xattr(changed, _REDIRECT) is not None
            opaque = redirected or (not place.is_view and _xattr(changed, OPAQUE) == b"y")
            within = _Place(is_view=place.is_view or redirected, is_new=place.is_new or opaque)
            before = self._budget.entries
            os.mkdir(path[-1], 0o700, dir_fd=target)
            new = os.open(path[-1], _OPEN, dir_fd=target)
            try:
                self._budget.entry()
                inside = self._open_view(path) if redirected else os.dup(changed)
                try:
                    self._contents(inside, new, path, within)
                finally:
                    os.close(inside)
                xattrs = kept_attributes(changed)
                if self._budget.entries == before + 1 and self._is_no_change(path, status, xattrs, within, place):
                    os.rmdir(path[-1], dir_fd=target)
                    self._budget.entries -= 1
                    return
                self._budget.directory()
                if opaque:
                    os.setxattr(new, OPAQUE, b"y")
                Attributes.of(status).put(new, xattrs)
            finally:
                os.close(new)
        finally:
            os.close(changed)

    def _file(self, source: int, target: int, path: tuple[str, ...], status: os.stat_result) -> None:
        name = path[-1]
        first = self._links.get((status.st_dev, status.st_ino))
        if first is not None:
            self._link(first, target, name)
            return
        self._budget.file(status.st_size)
        read = os.open(name, READ_FLAGS, dir_fd=source)
        try:
            if self._needles and holds_any(read, self._needles, _SEARCH_LIMIT):
                if _is_cache(path):
                    return
                raise FailedPrecondition(
                    f"/{'/'.join(path)} holds a setting of this machine (a package mirror, a proxy), which builds may "
                    "use but not keep: remove the file, or the line, in the same step"
                )
            write = os.open(name, WRITE_FLAGS, 0o600, dir_fd=target)
            try:
                copy_data(read, write, self._budget.written)
                Attributes.of(status).put(write, kept_attributes(read))
            finally:
                os.close(write)
        finally:
            os.close(read)
        if status.st_nlink > 1:
            self._links[status.st_dev, status.st_ino] = path
        self._budget.entry()

    def _link(self, first: tuple[str, ...], target: int, name: str) -> None:
        directory = _descend(os.dup(self._root), first[:-1])
        try:
            os.link(first[-1], name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(directory)
        self._budget.entry()

    def _is_no_change(
        self, path: tuple[str, ...], status: os.stat_result, xattrs: dict[str, bytes], within: _Place, place: _Place
    ) -> bool:
        """Whether a directory at `place` with nothing in it changes nothing. `within`: the place of what is in it."""
        if within.is_view:
            return False
        mine = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        try:
            below = None if place.is_new else directory_in(self._upper.lower, path)
        except Refused:
            # A link is there: the directory takes its place.
            return False
        if below is None:
            return path in _MADE and mine == (_MADE[path], 0, 0)
        if within.is_new:
            # It hides what is below.
            return False
        theirs = (stat.S_IMODE(below.status.st_mode), below.status.st_uid, below.status.st_gid)
        kept = {name: value for name, value in below.xattrs.items() if name.startswith(KEPT_XATTRS)}
        return mine == theirs and kept == xattrs

    def _finish_root(self, source: int) -> None:
        # A new disk's are those of what it lies on, so that these are the guest's own wish where they differ.
        status, xattrs = os.fstat(source), kept_attributes(source)
        if not self._is_no_change((), status, xattrs, _Place(), _Place()):
            self._budget.entry()
        Attributes.of(status).put(self._root, xattrs)

    def _open_view(self, path: tuple[str, ...]) -> int:
        return _descend(os.open(self._upper.view, _OPEN), path)


def _descend(directory: int, names: Sequence[str]) -> int:
    """A descriptor of the directory `names` below `directory`, which is closed. Raises OSError."""
    for name in names:
        try:
            inner = os.open(name, _OPEN, dir_fd=directory)
        finally:
            os.close(directory)
        directory = inner
    return directory


def _is_cache(path: tuple[str, ...]) -> bool:
    return not _CACHES.isdisjoint(path[:-1]) or any(path[: len(place)] == place for place in _CACHE_PLACES)


def _xattr(descriptor: int, key: str) -> bytes | None:
    try:
        return os.getxattr(descriptor, key)
    except OSError:
        return None
