"""Which files differ between two saved disks.

Both are mounted read-only, each below a view as its sandbox had it: the overlay of the template's layers and the disk.
The disks' own trees tell where to look, the views what is there: whiteouts, opaque and renamed directories are the
kernel's business. Nothing is written, no symbolic link is followed: the walk goes from one real directory to the next,
in trees that nobody can change.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atolld.core.snapshot import FileChange, FileDiff
from atolld.foundation.errors import FailedPrecondition

# A bound on time: some 10 s.
MAX_VISITED = 500_000
_COMPARED_AT_ONCE = 1 << 20
# What the host puts there for the agent, in every sandbox.
_OURS = frozenset({".atoll"})
_MARKS = ("trusted.overlay.opaque", "trusted.overlay.redirect")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `upper`: the disk's own tree, None for the bare template; `view`: what its sandbox saw.

    Below the root they are None where there is no directory.
    """

    upper: Path | None
    view: Path | None

    def into(self, name: str) -> Side:
        """The same one directory deeper."""
        return Side(_directory(self.upper, name), _directory(self.view, name))


def diff(older: Side, newer: Side, limit: int) -> list[FileDiff]:
    """At most `limit` differences in the order of their paths, compared part by part. Blocks.

    A removed directory is one entry, an added one is an entry and one for all that is in it. A file whose time alone
    differs is the same. Raises FailedPrecondition when there are too many files to compare, OSError.
    """
    try:
        return list(itertools.islice(_Walk().walk(older, newer, "", everything=False), limit))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise FailedPrecondition("directories are nested too deep to be compared") from error


class _Walk:
    def __init__(self) -> None:
        self._visited = 0

    def walk(self, older: Side, newer: Side, at: str, *, everything: bool) -> Iterator[FileDiff]:
        """`everything`: the disks' own trees do not tell what differs here (a directory was replaced or renamed).

        Keeps its own stack: a guest's directories may be deeper than Python's.
        """
        stack = [self._entries(older, newer, at, everything)]
        while stack:
            try:
                difference, below = next(stack[-1])
            except StopIteration:
                stack.pop()
                continue
            if difference is not None:
                yield replace(difference, path=_text(difference.path))
            if below is not None:
                stack.append(self._entries(*below))

    def _entries(
        self, older: Side, newer: Side, at: str, everything: bool
    ) -> Iterator[tuple[FileDiff | None, tuple[Side, Side, str, bool] | None]]:
        everything = everything or _is_marked(older.upper) or _is_marked(newer.upper)
        for name in _names(older, newer, everything):
            path = f"{at}/{name}"
            if not at and name in _OURS:
                continue
            self._visited += 1
            if self._visited > MAX_VISITED:
                raise FailedPrecondition(f"more than {MAX_VISITED} files would have to be compared")
            old, new = _status(older.view, name), _status(newer.view, name)
            difference = self._compare(older, newer, name, path, old, new)
            if new is None or not stat.S_ISDIR(new.st_mode):
                yield difference, None
                continue
            below = older.into(name), newer.into(name)
            appeared = old is None or not stat.S_ISDIR(old.st_mode)
            yield difference, (*below, path, everything or appeared)

    def _compare(
        self, older: Side, newer: Side, name: str, path: str, old: os.stat_result | None, new: os.stat_result | None
    ) -> FileDiff | None:
        if new is None:
            return None if old is None else FileDiff(path, FileChange.REMOVED, 0)
        size = new.st_size if stat.S_ISREG(new.st_mode) else 0
        if old is None:
            return FileDiff(path, FileChange.ADDED, size)
        if _attributes(old) == _attributes(new) and (
            stat.S_ISDIR(new.st_mode) or self._same_contents(older, newer, name, old, new)
        ):
            return None
        return FileDiff(path, FileChange.CHANGED, size)

    def _same_contents(self, older: Side, newer: Side, name: str, old: os.stat_result, new: os.stat_result) -> bool:
        if _is_untouched(older.upper, newer.upper, name):
            return True
        assert older.view is not None and newer.view is not None
        if stat.S_ISLNK(new.st_mode):
            return os.readlink(older.view / name) == os.readlink(newer.view / name)
        if not stat.S_ISREG(new.st_mode):
            return old.st_rdev == new.st_rdev
        return old.st_size == new.st_size and _same_bytes(older.view / name, newer.view / name)


def _text(path: str) -> str:
    """A guest may name its files with any bytes; those that are no text are shown as a question mark each."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _attributes(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _names(older: Side, newer: Side, everything: bool) -> Sequence[str]:
    found: set[str] = set()
    for side in (older, newer):
        for directory in (side.upper, side.view if everything else None):
            if directory is not None:
                found.update(os.listdir(directory))
    return sorted(found)


def _is_untouched(older: Path | None, newer: Path | None, name: str) -> bool:
    """Whether it is one file of one disk, not changed between the saves: both disks are clones of one line."""
    old, new = _status(older, name), _status(newer, name)
    if old is None or new is None:
        return False
    return all(
        getattr(old, field) == getattr(new, field) for field in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )


def _same_bytes(one: Path, other: Path) -> bool:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(one, flags), "rb") as first, open(os.open(other, flags), "rb") as second:
        while block := first.read(_COMPARED_AT_ONCE):
            if block != second.read(_COMPARED_AT_ONCE):
                return False
    return True


def _status(directory: Path | None, name: str) -> os.stat_result | None:
    if directory is None:
        return None
    try:
        return os.lstat(directory / name)
    except FileNotFoundError:
        return None


def _directory(parent: Path | None, name: str) -> Path | None:
    status = _status(parent, name)
    return parent / name if parent is not None and status is not None and stat.S_ISDIR(status.st_mode) else None


def _is_marked(directory: Path | None) -> bool:
    if directory is None:
        return False
    marks = os.listxattr(directory, follow_symlinks=False)
    return any(mark in marks for mark in _MARKS)
