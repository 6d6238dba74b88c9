"""Paths in the root file system of an image, whose links may lead anywhere: followed within that root, as in a chroot.

The tree is nobody else's meanwhile, so what was looked at stays as it was.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.images.tree import MAX_DEPTH, Refused, status_of

MAX_LINKS = 40
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Makes the directory of that name in the directory of that descriptor, which has these names.
Make = Callable[[int, str, tuple[str, ...]], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to. `names`: from the root on, no link on the way."""

    names: tuple[str, ...]
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Root:
    """The tree at `path`. As a context manager it is closed at the end."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, OPEN_DIRECTORY)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)

    def find(self, path: str, *, follow: bool = True, start: Sequence[str] = ()) -> Found | None:
        """What is at `path`, from the directory `start` on unless it is absolute; None when there is nothing.

        `follow` False: a link at its very end is found itself. Raises Refused: links in a circle, or too deep.
        """
        return self._walk(path, start, follow, None)

    def make(self, path: str, make: Make) -> Found:
        """The directory at `path`, made with its parents as far as it is missing, also where a link leads.

        Raises Refused when something else is in the way, OSError.
        """
        found = self._walk(path, (), True, make)
        if found is None or not found.is_directory:
            raise Refused(f"{path[:120]!r} is not a directory")
        return found

    def open(self, names: Sequence[str]) -> int:
        """A new descriptor of the directory at `names`, none of which is a link. Raises OSError."""
        descriptor = os.dup(self.descriptor)
        for name in names:
            try:
                inner = os.open(name, OPEN_DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _walk(self, path: str, start: Sequence[str], follow: bool, make: Make | None) -> Found | None:
        with _Walk(self.descriptor, path, start) as walk:
            return walk.to_the_end(follow, make)


class _Walk:
    """One path on its way: `left` is still to be gone, from the directory called `names` on."""

    def __init__(self, root: int, path: str, start: Sequence[str]) -> None:
        self._path = path[:120]
        self._left = deque(path.split("/"))
        self._links = 0
        self._names: list[str] = []
        self._stack = [os.dup(root)]
        for name in () if path.startswith("/") else start:
            self._enter(name)

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for descriptor in self._stack:
            os.close(descriptor)

    def to_the_end(self, follow: bool, make: Make | None) -> Found | None:
        while self._left:
            part = self._left.popleft()
            if part == "..":
                self._leave()
            elif part not in ("", "."):
                status = status_of(part, self._stack[-1])
                if status is None and make is None:
                    return None
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    if stat.S_ISLNK(status.st_mode) and (follow or not self._is_last()):
                        self._follow(part)
                        continue
                    if make is not None:
                        raise Refused(f"/{'/'.join((*self._names, part))[:120]} is not a directory")
                    return Found((*self._names, part), status) if self._is_last() else None
                if status is None and make is not None:
                    make(self._stack[-1], part, tuple(self._names))
                self._enter(part)
        return Found(tuple(self._names), os.fstat(self._stack[-1]))

    def _is_last(self) -> bool:
        return not any(self._left)

    def _enter(self, name: str) -> None:
        if len(self._names) >= MAX_DEPTH:
            raise Refused(f"{self._path!r} leads deeper than {MAX_DEPTH} directories")
        self._stack.append(os.open(name, OPEN_DIRECTORY, dir_fd=self._stack[-1]))
        self._names.append(name)

    def _leave(self) -> None:
        if self._names:
            self._names.pop()
            os.close(self._stack.pop())

    def _follow(self, link: str) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise Refused(f"{self._path!r} has more than {MAX_LINKS} links on its way")
        target = os.readlink(link, dir_fd=self._stack[-1])
        while target.startswith("/") and self._names:
            self._leave()
        self._left.extendleft(reversed(target.split("/")))
