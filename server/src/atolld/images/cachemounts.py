"""What the cache mounts of builds held when their last step ended: a tar each, for the next step of the same project.

    <cache>/builds/mounts/<project>/<digest of the id>   the tar; its time: when a step last took or wrote it
    <cache>/builds/mounts/<project>/.new-<random>        one that is being written

The tars come out of sandboxes and go into sandboxes again; nothing here looks into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import Capacity
from atolld.foundation.ids import ProjectId
from atolld.foundation.units import GIB
from atolld.images.projectdirs import KEPT_S, entries, project_directory
from atolld.images.unpack import RESERVE_BYTES, check_room

MAX_PROJECT_BYTES = 4 * GIB
# Longer than any build may take: whoever began to write it was killed.
_ABANDONED_S = 24 * 3600.0
_NEW = ".new-"
_CHECK_BYTES = 32 << 20


class NewCache:
    """One that is being written; `commit` or `abandon` ends it. Everything blocks for a moment."""

    def __init__(self, store: CacheMounts, home: Path) -> None:
        self._store = store
        self._home = home
        descriptor, name = tempfile.mkstemp(prefix=_NEW, dir=home.parent)
        self._part = Path(name)
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self.size_bytes = 0
        self._unchecked = 0

    def write(self, piece: bytes) -> None:
        """More of it. Raises Capacity when the disk is full, OSError."""
        self.size_bytes += len(piece)
        self._unchecked += len(piece)
        if self._unchecked >= _CHECK_BYTES:
            self._unchecked = 0
            check_room(self._file.fileno(), self._store.reserve_bytes)
        self._file.write(piece)

    def commit(self) -> None:
        """From now on it is what the next step gets. Raises Capacity when it is too much for the project, OSError."""
        self._file.close()
        self._store.make_room(self._home, self.size_bytes)
        self._store.use(self._part)
        self._part.rename(self._home)

    def abandon(self) -> None:
        """Whatever was there before stays; after `commit` it does nothing."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


class CacheMounts:
    """Over one cache directory, shared by all daemons of the machine: of two that write at once, the later counts."""

    def __init__(
        self,
        cache: Path,
        clock: Clock | None = None,
        *,
        max_project_bytes: int = MAX_PROJECT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._mounts = cache / "builds" / "mounts"
        self._clock = clock or SystemClock()
        self._max_project_bytes = max_project_bytes
        self.reserve_bytes = reserve_bytes

    def read(self, project_id: ProjectId, id: str) -> BinaryIO | None:
        """The tar, to be closed; None when there is none. It stays as it is, whatever becomes of its name. Blocks."""
        home = self._home(project_id, id)
        try:
            file = home.open("rb")
        except FileNotFoundError:
            return None
        with contextlib.suppress(FileNotFoundError):
            self.use(home)
        return file

    def write(self, project_id: ProjectId, id: str) -> NewCache:
        """Begin a new one. Blocks. Raises Capacity when the disk is full, OSError."""
        home = self._home(project_id, id)
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            check_room(descriptor, self.reserve_bytes)
        finally:
            os.close(descriptor)
        return NewCache(self, home)

    def sweep(self, older_s: float = KEPT_S) -> int:
        """Remove those that no step used for so long; returns how many. Blocks."""
        removed = 0
        for project in entries(self._mounts):
            for entry in entries(project):
                age_s = self._clock.now() - _time(entry)
                if entry.name.startswith(_NEW):
                    if age_s > _ABANDONED_S:
                        entry.unlink(missing_ok=True)
                elif age_s > older_s:
                    entry.unlink(missing_ok=True)
                    removed += 1
            with contextlib.suppress(OSError):
                project.rmdir()
        return removed

    def make_room(self, home: Path, size_bytes: int) -> None:
        """Remove those of the project that were used longest ago until so much fits. Raises Capacity."""
        if size_bytes > self._max_project_bytes:
            raise Capacity(f"a cache of {size_bytes} bytes is larger than all of a project's may be")
        others = [one for one in entries(home.parent) if not one.name.startswith(_NEW) and one != home]
        total = size_bytes + sum(map(_size, others))
        for one in sorted(others, key=_time):
            if total <= self._max_project_bytes:
                return
            total -= _size(one)
            one.unlink(missing_ok=True)

    def use(self, path: Path) -> None:
        """It is used now. Raises FileNotFoundError."""
        now = self._clock.now()
        os.utime(path, (now, now))

    def _home(self, project_id: ProjectId, id: str) -> Path:
        return (
            project_directory(self._mounts, project_id)
            / hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
        )


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
