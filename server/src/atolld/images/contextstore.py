"""Files that callers uploaded for their builds: unpacked once, read by the COPY steps of any build of their project.

    <cache>/builds/files/<project>/<name>/root/      the files
    <cache>/builds/files/<project>/<name>/about.json bytes on disk
    <cache>/builds/files/<project>/<name>/keys/      digests of what steps read of them, by what they ask for
    <cache>/builds/files/<project>/<name>/used       its time: when a build last asked for them
    <cache>/builds/files/<project>/.new-<random>/    one that is being uploaded, or is being removed

A directory is locked by who fills it or reads it; a name leads to whole uploads only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import to_the_end
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import Capacity, InvalidArgument, LimitExceeded, NotFound
from atolld.foundation.ids import ProjectId
from atolld.foundation.units import GIB, MIB, format_bytes
from atolld.host import syscalls
from atolld.images.decompress import limit_of, open_layer
from atolld.images.layers import disk_usage, lock_directory
from atolld.images.projectdirs import FRESH_S, KEPT_S, entries, project_directory
from atolld.images.unpack import RESERVE_BYTES, Cancelled, check_room, unpack

MAX_UPLOAD_BYTES = 8 * GIB
MAX_PROJECT_BYTES = 16 * GIB
_NAME = re.compile(r"[0-9a-zA-Z_-]{1,128}")
_NEW = ".new-"
_BATCH_BYTES = 1 * MIB
_CHECK_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class _Stored:
    home: Path
    used_at: float
    size_bytes: int


class ContextStore:
    """Over one cache, shared by all daemons of the machine. `max_project_bytes`: of all files of one project."""

    def __init__(
        self,
        cache: Path,
        clock: Clock | None = None,
        *,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        max_project_bytes: int = MAX_PROJECT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._files = cache / "builds" / "files"
        self._clock = clock or SystemClock()
        self._max_upload_bytes = max_upload_bytes
        self._max_project_bytes = max_project_bytes
        self._reserve_bytes = reserve_bytes

    def has(self, project_id: ProjectId, name: str) -> bool:
        """Whether there are files of that name; they then stay for a week. Raises InvalidArgument."""
        home = self._home(project_id, name)
        if not (home / "about.json").is_file():
            return False
        try:
            self._use(home)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def reading(self, project_id: ProjectId, name: str) -> Iterator[Path]:
        """The directory of the upload; its `root` stays as it is until the block ends.

        The path holds for as long, whatever name it has meanwhile. Raises NotFound.
        """
        home = self._home(project_id, name)
        lock = _lock_to_read(home)
        if lock is None:
            raise NotFound(f"no files were uploaded under the name {name!r}, or they were removed: upload them again")
        try:
            # Another upload may take its name at any moment: this one is read all the same.
            here = Path(f"/proc/self/fd/{lock}")
            self._use(here)
            yield here
        finally:
            os.close(lock)

    async def put(self, project_id: ProjectId, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Store an uploaded tar (plain, gzip or zstd) in the place of what has the name; returns the bytes received.

        Raises InvalidArgument (refused), LimitExceeded (too much for the project), Capacity; nothing is left then.
        """
        home = self._home(project_id, name)
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(self.sweep, project_id)
        building, lock = _begin(home.parent)
        try:
            received = await self._spool(pieces, building / "tar")
            stop = threading.Event()
            work = asyncio.to_thread(self._unpack, building, home, stop)
            await to_the_end(work, name="unpack-files", on_cancel=stop.set)
            return received
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Capacity("the disk became full while files were uploaded") from None
            raise
        finally:
            os.close(lock)
            # Whatever it is by now: what failed, or what had the name before, unless somebody reads that.
            await asyncio.to_thread(_remove, building)

    def sweep(self, project_id: ProjectId | None = None, older_s: float = KEPT_S) -> int:
        """Remove files of a project (None: of all) that nobody used for so long, and what killed uploads left.

        Returns how many uploads went. Blocks.
        """
        homes = [self._project(project_id)] if project_id is not None else entries(self._files)
        removed = 0
        for home in homes:
            for entry in entries(home):
                if entry.name.startswith(_NEW):
                    _remove(entry)
                else:
                    removed += _remove(entry, unused_since=self._clock.now() - older_s)
            if project_id is None:
                _remove_empty(home)
        return removed

    async def _spool(self, pieces: AsyncIterator[bytes], target: Path) -> int:
        size = unchecked = 0
        batch = bytearray()
        with target.open("xb", buffering=0) as file:
            async for piece in pieces:
                size += len(piece)
                if size > self._max_upload_bytes:
                    raise InvalidArgument(f"the upload has more than {format_bytes(self._max_upload_bytes)}")
                batch += piece
                if len(batch) < _BATCH_BYTES:
                    continue
                await asyncio.to_thread(file.write, bytes(batch))
                unchecked += len(batch)
                batch.clear()
                if unchecked >= _CHECK_BYTES:
                    unchecked = 0
                    check_room(file.fileno(), self._reserve_bytes)
            await asyncio.to_thread(file.write, bytes(batch))
        return size

    def _unpack(self, building: Path, home: Path, stop: threading.Event) -> None:
        (building / "root").mkdir(mode=0o755)
        tar = building / "tar"
        try:
            with open_layer(tar, self._limit(tar)) as stream:
                unpack(stream, building / "root", reserve_bytes=self._reserve_bytes, stop=stop, whiteouts=False)
                stream.drain()
        except InvalidArgument as error:
            reason = error.message.removeprefix("a layer is refused: ")
            raise InvalidArgument(f"the uploaded files are refused: {reason}") from None
        tar.unlink()
        size_bytes = disk_usage(building / "root")
        self._make_room(home, size_bytes)
        (building / "about.json").write_text(json.dumps({"size_bytes": size_bytes}), encoding="utf-8")
        (building / "keys").mkdir(mode=0o700)
        self._use(building)
        _write_out(building)
        if stop.is_set():
            raise Cancelled
        _swap(building, home)

    def _limit(self, tar: Path) -> int:
        # Unpacked, too, it is not to be more than the project may have.
        return min(limit_of(tar.stat().st_size), self._max_project_bytes)

    def _make_room(self, home: Path, size_bytes: int) -> None:
        """Remove what was not used lately, the oldest first, until so much fits into the project's bound."""
        stored = sorted(_stored(home.parent, but=home.name), key=lambda one: one.used_at)
        total = size_bytes + sum(one.size_bytes for one in stored)
        for one in stored:
            if total <= self._max_project_bytes:
                return
            if _remove(one.home, unused_since=self._clock.now() - FRESH_S):
                total -= one.size_bytes
        if total > self._max_project_bytes:
            raise LimitExceeded(
                f"the files uploaded for the project's builds would take {format_bytes(total)}; at most "
                f"{format_bytes(self._max_project_bytes)} are kept. Leave out what builds do not need (.dockerignore), "
                "or try again in an hour: what no build uses by then makes room"
            )

    def _use(self, home: Path) -> None:
        mark = home / "used"
        mark.touch(mode=0o600)
        now = self._clock.now()
        os.utime(mark, (now, now))

    def _home(self, project_id: ProjectId, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"{name[:80]!r} is no name for uploaded files: 1 to 128 letters, digits, '-' and '_' are expected"
            )
        return self._project(project_id) / name

    def _project(self, project_id: ProjectId) -> Path:
        return project_directory(self._files, project_id)


def _begin(project: Path) -> tuple[Path, int]:
    """A new directory, and the lock that says that it is ours."""
    while True:
        building = Path(tempfile.mkdtemp(prefix=_NEW, dir=project))
        lock = lock_directory(building)
        # Who sweeps may have been faster.
        if lock is not None:
            return building, lock


def _swap(building: Path, home: Path) -> None:
    """Give `building` the name `home`, and what had it before, if anything had, the other one.

    Builds look the name up meanwhile: it leads to one of the two at any time.
    """
    while True:
        try:
            building.rename(home)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        # Who swept may have been faster: then the name is free.
        with contextlib.suppress(FileNotFoundError):
            syscalls.exchange(building, home)
            return


def _lock_to_read(home: Path) -> int | None:
    """A descriptor of the whole upload that has the name, which stays as it is until it is closed; None: there is
    none."""
    while True:
        try:
            lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Who removes it has it alone, for a moment.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if Path(f"/proc/self/fd/{lock}/about.json").is_file():
                return lock
            replaced = not _has_the_name(lock, home)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        if not replaced:
            return None


def _has_the_name(descriptor: int, home: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(home))
    except FileNotFoundError:
        return False


def _stored(project: Path, but: str) -> list[_Stored]:
    found = []
    for entry in entries(project):
        try:
            if not entry.name.startswith(_NEW) and entry.name != but:
                size = int(json.loads((entry / "about.json").read_text(encoding="utf-8"))["size_bytes"])
                found.append(_Stored(entry, _used_at(entry), size))
        except (OSError, ValueError, KeyError):
            continue
    return found


def _remove(home: Path, unused_since: float | None = None) -> int:
    """Remove an upload unless somebody fills or reads it now, or used it since then; returns how many were removed."""
    if unused_since is not None and _used_at(home) >= unused_since:
        return 0
    lock = lock_directory(home)
    if lock is None:
        return 0
    try:
        # Another one may have got the name since it was looked at.
        if unused_since is not None and _used_at(home) >= unused_since:
            return 0
        # First what makes it whole: half of it must never be found under its name. And by the descriptor: another
        # upload may get the name meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.unlink("about.json", dir_fd=lock)
        for name in os.listdir(lock):
            _remove_entry(name, lock)
        with contextlib.suppress(OSError):
            home.rmdir()
        return 1
    finally:
        os.close(lock)


def _remove_entry(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=directory)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return


def _used_at(home: Path) -> float:
    try:
        return (home / "used").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _write_out(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(descriptor)
    finally:
        os.close(descriptor)
