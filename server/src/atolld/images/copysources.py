"""What a COPY reads: its patterns looked up below a root, and a digest of all that they lead to."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atolld.core.build import Copy
from atolld.foundation.errors import InvalidArgument
from atolld.images.filecopy import READ_FLAGS, kept_attributes
from atolld.images.globs import Name, matches_path, parse
from atolld.images.rootwalk import OPEN_DIRECTORY, Found, Root
from atolld.images.tree import MAX_DEPTH
from atolld.images.unpack import MAX_ENTRIES, Cancelled

_READ_BYTES = 1 << 20
_FORMAT = "atoll copy 1"


@dataclass(frozen=True, slots=True)
class Picked:
    """One source. `found`: what it is, links followed where the step wants that. `given`: its path as it was asked for.
    `kept`: how many of the last names of that are kept with `--parents`."""

    found: Found
    given: tuple[str, ...]
    kept: int

    @property
    def parents(self) -> tuple[str, ...]:
        """The directories that it keeps at its destination; with its own name when it is one itself."""
        kept = self.given[len(self.given) - self.kept :]
        return kept if self.found.is_directory else kept[:-1]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below a source. `path`: from the source on. `directory`: a descriptor of where it lies, good until the
    next one is asked for."""

    path: tuple[str, ...]
    directory: int
    status: os.stat_result

    @property
    def name(self) -> str:
        return self.path[-1]


class Sources:
    """Those of `step` below `root`. `stop`: ends long work, which then raises Cancelled."""

    def __init__(self, root: Root, step: Copy, stop: threading.Event | None = None) -> None:
        self.root = root
        self._step = step
        self._exclude = [parse(pattern) for pattern in step.exclude]
        self._stop = stop or threading.Event()
        self._seen = 0

    def pick(self) -> list[Picked]:
        """All sources, in the order they were asked for and then of their paths.

        Raises InvalidArgument when one matches nothing, is a bad pattern or leads through links in a circle.
        """
        picked: list[Picked] = []
        for source in self._step.sources:
            found = [one for one in self._match(source) if not self._is_excluded_file(one)]
            if not found:
                raise InvalidArgument(f"{source[:200]!r} matches nothing among the files that it is copied from")
            picked += found
        return picked

    def excluded(self, path: Sequence[str]) -> bool:
        """Whether `path`, from its source on, is left out."""
        return any(matches_path(pattern, path) for pattern in self._exclude)

    def below(self, picked: Picked) -> Iterator[Entry]:
        """All that is in a directory, each directory before what is in it, in order of names. Raises OSError."""
        directory = self.root.open(picked.found.names)
        try:
            yield from self._below(directory, ())
        finally:
            os.close(directory)

    def key(self) -> str:
        """A digest of what the sources are: paths, kinds, modes, contents, links, attributes; not of owners and times.

        Raises as `pick`.
        """
        hasher = hashlib.sha256(_FORMAT.encode())
        for one in self.pick():
            told: list[object] = [one.given, one.kept, one.found.is_directory]
            hasher.update(json.dumps(told).encode())
            if one.found.is_directory:
                for entry in self.below(one):
                    hasher.update(json.dumps([entry.path, *self._told(entry.directory, entry.name)]).encode())
                continue
            directory = self.root.open(one.found.names[:-1])
            try:
                hasher.update(json.dumps(self._told(directory, one.found.names[-1])).encode())
            finally:
                os.close(directory)
        return hasher.hexdigest()

    def check(self) -> None:
        """Raises Cancelled when it is to stop."""
        if self._stop.is_set():
            raise Cancelled

    def _match(self, source: str) -> Iterator[Picked]:
        before, pivot, after = source.partition("/./")
        names = parse(before) if pivot else ()
        pattern = (*names, *parse(after if pivot else source))
        dropped = len(names)
        fixed = [name.literal for name in pattern]
        count = fixed.index(None) if None in fixed else len(fixed)
        prefix = tuple(literal for literal in fixed[:count] if literal is not None)
        whole = count == len(pattern)
        found = self.root.find("/".join(prefix), follow=self._step.follow or not whole)
        if found is None:
            return
        if whole:
            yield Picked(found, prefix, max(0, len(prefix) - dropped))
        elif found.is_directory:
            directory = self.root.open(found.names)
            try:
                for path in self._walk(directory, pattern[count:], ()):
                    leads = self.root.find("/".join(path), follow=self._step.follow, start=found.names)
                    if leads is not None:
                        given = (*prefix, *path)
                        yield Picked(leads, given, max(0, len(given) - dropped))
            finally:
                os.close(directory)

    def _walk(self, directory: int, pattern: tuple[Name, ...], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The paths below `directory` that are the pattern's; no link is gone through."""
        if len(path) >= MAX_DEPTH:
            return
        is_deep = pattern[-1].deep
        goes_deep = any(name.deep for name in pattern) or len(path) + 1 < len(pattern)
        for name in _names(directory):
            self._count()
            here = (*path, name)
            is_directory = stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            # What `**` at the end means is every file, not every directory once more.
            if matches_path(pattern, here) and not (is_deep and is_directory):
                yield here
            if is_directory and goes_deep:
                inner = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
                try:
                    yield from self._walk(inner, pattern, here)
                finally:
                    os.close(inner)

    def _below(self, directory: int, path: tuple[str, ...]) -> Iterator[Entry]:
        if len(path) >= MAX_DEPTH:
            raise InvalidArgument(f"{'/'.join(path[:8])}/... is nested deeper than {MAX_DEPTH} directories")
        for name in _names(directory):
            here = (*path, name)
            if self._exclude and self.excluded(here):
                continue
            self._count()
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            yield Entry(here, directory, status)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
                try:
                    yield from self._below(inner, here)
                finally:
                    os.close(inner)

    def _is_excluded_file(self, picked: Picked) -> bool:
        return not picked.found.is_directory and self.excluded(picked.given[-1:])

    def _count(self) -> None:
        self._seen += 1
        if self._seen > 4 * MAX_ENTRIES:
            raise InvalidArgument("too many files would have to be looked at for one step")
        if self._seen % 1000 == 0:
            self.check()

    def _told(self, directory: int, name: str) -> list[object]:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        if kind == stat.S_IFLNK:
            return [kind, os.readlink(name, dir_fd=directory)]
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            return [kind, mode]
        file = os.open(name, OPEN_DIRECTORY if kind == stat.S_IFDIR else READ_FLAGS, dir_fd=directory)
        try:
            xattrs = {key: value.hex() for key, value in kept_attributes(file).items()}
            return [kind, mode, xattrs, self._contents(file) if kind == stat.S_IFREG else ""]
        finally:
            os.close(file)

    def _contents(self, file: int) -> str:
        hasher = hashlib.sha256()
        position = 0
        while data := os.pread(file, _READ_BYTES, position):
            hasher.update(data)
            position += len(data)
            self.check()
        return hasher.hexdigest()


def _names(directory: int) -> list[str]:
    return sorted(os.listdir(directory), key=os.fsencode)
