"""A directory tree that is filled from hostile paths: walked by descriptors, so that no link is ever followed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_DEPTH = 128
OPAQUE = "trusted.overlay.opaque"
_OVERLAY = "trusted.overlay."
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_MODE = 0o755


class Refused(ValueError):
    """A path that leads where it may not."""


@dataclass(frozen=True, slots=True)
class Found:
    """A directory as layers have it."""

    status: os.stat_result
    xattrs: dict[str, bytes]


def split(path: str) -> list[str]:
    """The names that a relative path consists of; none for the root. Raises Refused on any other path."""
    if path.startswith("/"):
        raise Refused(f"{path[:120]!r} is an absolute path")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise Refused(f"{path[:120]!r} leads out of the layer")
    if len(names) > MAX_DEPTH or "\0" in path or any(len(os.fsencode(name)) > 255 for name in names):
        raise Refused(f"{path[:120]!r} is too deep, or has a name that no file can have")
    return names


def is_whiteout(status: os.stat_result) -> bool:
    """Whether overlayfs takes it for "deleted"."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class Tree:
    """The tree below `root`, for one layer above those in `lower` (the topmost first).

    Directories that nobody named get the owner, mode, time and attributes they have below: in an overlay the upper
    directory's count. `depends` tells whether that happened: such a tree fits over these layers only.
    """

    def __init__(self, root: Path, lower: Sequence[Path]) -> None:
        self._lower = lower
        self._names: list[str] = []
        self._descriptors = [os.open(root, _OPEN)]
        self.depends = False

    def close(self) -> None:
        """Close what is open."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    @property
    def root(self) -> int:
        """A descriptor of the root."""
        return self._descriptors[0]

    def enter(self, names: Sequence[str]) -> int:
        """A descriptor of the directory `names`, made with its parents when it is missing; good until the next call.

        Raises Refused when a link or a file is in the way, OSError.
        """
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        while len(self._names) > same:
            self._names.pop()
            os.close(self._descriptors.pop())
        for number in range(same, len(names)):
            opened = self._open(self._descriptors[-1], names[: number + 1])
            self._descriptors.append(opened)
            self._names.append(names[number])
        return self._descriptors[-1]

    def find(self, names: Sequence[str]) -> int:
        """A new descriptor of the directory `names`, which the caller closes. Raises Refused unless it is there."""
        descriptor = os.dup(self.root)
        for name in names:
            try:
                inner = os.open(name, _OPEN, dir_fd=descriptor)
            except OSError:
                raise Refused(f"{'/'.join(names)[:120]!r} is not a directory of this layer") from None
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _open(self, parent: int, names: Sequence[str]) -> int:
        name = names[-1]
        status = status_of(name, parent)
        if status is None or is_whiteout(status):
            if status is not None:
                os.unlink(name, dir_fd=parent)
            return self._imply(parent, names, is_opaque=status is not None)
        path = "/".join(names)[:120]
        if stat.S_ISLNK(status.st_mode):
            raise Refused(f"a file is to be written through the link {path!r}")
        if not stat.S_ISDIR(status.st_mode):
            raise Refused(f"{path!r} is a file and a directory")
        return os.open(name, _OPEN, dir_fd=parent)

    def _imply(self, parent: int, names: Sequence[str], is_opaque: bool) -> int:
        self.depends = True
        found = None if is_opaque else self.below(names)
        os.mkdir(names[-1], 0o700, dir_fd=parent)
        descriptor = os.open(names[-1], _OPEN, dir_fd=parent)
        try:
            if is_opaque:
                os.setxattr(descriptor, OPAQUE, b"y")
            _take_over(descriptor, found)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def imply_root(self) -> None:
        """Give the root, which no entry named, what it has below."""
        found = self.below([])
        default = found is None or (found.status.st_mode & 0o7777, found.status.st_uid, found.status.st_gid) == (
            _DEFAULT_MODE,
            0,
            0,
        )
        self.depends = self.depends or not default
        _take_over(self.root, found)

    def below(self, names: Sequence[str]) -> Found | None:
        """What the directory is in the layers below, merged. Raises Refused when it is a link there."""
        return directory_in(self._lower, names)


def directory_in(layers: Sequence[Path], names: Sequence[str]) -> Found | None:
    """What the directory `names` is in `layers`, the topmost first; None when it is none there.

    Raises Refused when a link is on the way or at its end.
    """
    for layer in layers:
        found, is_last = _look(layer, names)
        if found is not None or is_last:
            return found
    return None


def file_in(layers: Sequence[Path], names: Sequence[str], limit_bytes: int) -> bytes | None:
    """The contents of the regular file `names` in `layers`, the topmost first, by no link; None when there is none.

    Raises Refused when a link is on the way, or the file is larger than the limit; OSError.
    """
    for layer in layers:
        found, is_last = _look(layer, names[:-1])
        if found is not None:
            try:
                descriptor = os.open(layer.joinpath(*names), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                # `found` ends the search of a directory; a file of it may be further down.
                if _hides(layer, names[:-1]):
                    return None
                continue
            except OSError:
                return None
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    return None
                if status.st_size > limit_bytes:
                    raise Refused(f"{'/'.join(names)!r} is larger than {limit_bytes} bytes")
                return file.read(limit_bytes)
        if is_last:
            return None
    return None


def _hides(layer: Path, names: Sequence[str]) -> bool:
    """Whether `layer` hides the layers below it somewhere on the way to its directory `names`."""
    return any(_has_mark(layer.joinpath(*names[: number + 1])) for number in range(len(names)))


def _has_mark(directory: Path) -> bool:
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def status_of(name: str, parent: int) -> os.stat_result | None:
    """Of `name` in the directory `parent`, itself and not what it links to; None when it is not there."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove(name: str, parent: int) -> None:
    """Remove a file or a directory with all in it."""
    status = status_of(name, parent)
    if status is not None and stat.S_ISDIR(status.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    elif status is not None:
        os.unlink(name, dir_fd=parent)


def _look(layer: Path, names: Sequence[str]) -> tuple[Found | None, bool]:
    """What `layer` has at `names`; and whether it hides the layers below it there."""
    descriptor = os.open(layer, _OPEN)
    is_last = False
    try:
        for number, name in enumerate(names):
            status = status_of(name, descriptor)
            if status is None:
                return None, is_last
            if stat.S_ISLNK(status.st_mode):
                path = "/".join(names[: number + 1])[:120]
                raise Refused(f"a file is to be written through {path!r}, which is a link in a layer below")
            if not stat.S_ISDIR(status.st_mode):
                return None, True
            inner = os.open(name, _OPEN, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            is_last = is_last or _xattr(descriptor, OPAQUE) == b"y"
        xattrs = {key: os.getxattr(descriptor, key) for key in os.listxattr(descriptor) if not key.startswith(_OVERLAY)}
        return Found(os.fstat(descriptor), xattrs), True
    finally:
        os.close(descriptor)


def _xattr(descriptor: int, key: str) -> bytes | None:
    try:
        return os.getxattr(descriptor, key)
    except OSError:
        return None


def _take_over(descriptor: int, found: Found | None) -> None:
    if found is None:
        os.chmod(descriptor, _DEFAULT_MODE)
        return
    take_attributes(descriptor, found)


def take_attributes(directory: int | Path, found: Found) -> None:
    """Give `directory` owner, mode and extended attributes of what was found. Raises OSError."""
    os.chown(directory, found.status.st_uid, found.status.st_gid)
    os.chmod(directory, stat.S_IMODE(found.status.st_mode))
    for key, value in found.xattrs.items():
        os.setxattr(directory, key, value)
