"""Content-addressed layers on disk.

    <cache>/layers/<digest>/manifest.json   what it was built from, what is in it
    <cache>/layers/<digest>/root/           the files
    <cache>/layers/<digest>/used            its time: when a build last asked for the layer; it stays for an hour
    <cache>/layers/.building-<random>/      one that is being built, locked by who builds it; left by a killed build

A directory named by a digest is always whole: it is filled under another name, written to disk, then renamed. The
directory of them all is locked for a moment by whoever makes such a name appear or vanish.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.errors import Internal
from atolld.host import mounts, syscalls
from atolld.host.templatelayers import is_pinned

# How long a layer stays that a build asked for, and that nothing names yet.
USE_S = 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BUILDING = ".building-"
_USED = "used"


@dataclass(frozen=True, slots=True)
class Layer:
    """One finished layer. `size_bytes`: what it takes on disk. `manifest`: as written when it was built."""

    digest: str
    root: Path
    size_bytes: int
    manifest: Mapping[str, object]


class LayerStore:
    """The layers below one cache directory; several processes, and threads of each, may use it at once."""

    def __init__(self, cache: Path) -> None:
        self.directory = cache / "layers"
        # What is being built here, and the locks that tell others so.
        self._locks: dict[Path, int] = {}

    def get(self, digest: str) -> Layer | None:
        """The layer of that digest, or None when it is not there."""
        if not _DIGEST.fullmatch(digest):
            return None
        home = self.directory / digest
        try:
            manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Layer(digest, home / "root", int(manifest["size_bytes"]), manifest)

    def holds(self, root: Path) -> bool:
        """Whether `root` is still that of a finished layer, as `get` would find it."""
        return root.parent.parent == self.directory and (root.parent / "manifest.json").is_file()

    def digests(self) -> list[str]:
        """The digests of all finished layers."""
        if not self.directory.is_dir():
            return []
        return sorted(entry.name for entry in self.directory.iterdir() if _DIGEST.fullmatch(entry.name))

    def begin(self) -> Path:
        """A new directory with an empty `root` in it, for `commit` or `abandon`; ours until this process ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        while True:
            home = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.directory))
            lock = lock_directory(home)
            # Somebody who was removing leftovers may have been faster.
            if lock is not None:
                break
        self._locks[home] = lock
        home.chmod(0o755)
        (home / "root").mkdir(mode=0o755)
        return home

    def commit(
        self, building: Path, digest: str, manifest: Mapping[str, object], *, used_at: float | None = None
    ) -> Layer:
        """Turn what `begin` gave into the layer `digest`, durably. Blocks while the disk is written.

        The layer that was there wins: both came from the same inputs, and sandboxes may use it already. `used_at`: as
        `use` at that time, from the first moment on.
        """
        size_bytes = disk_usage(building / "root")
        whole = {**manifest, "digest": digest, "size_bytes": size_bytes}
        (building / "manifest.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if used_at is not None:
            _mark_used(building, used_at)
        # One call for the whole file system instead of an fsync for each of some 30,000 files.
        _write_out(building)
        with self.guard():
            existing = self.get(digest)
            if existing is None:
                # A directory of that name without a manifest is no layer: somebody damaged it by hand.
                damaged = self._take_away(digest)
                building.rename(self.directory / digest)
            elif used_at is not None:
                _mark_used(existing.root.parent, used_at)
        if existing is not None:
            self.abandon(building)
            return existing
        self._unlock(building)
        _fsync_directory(self.directory)
        if damaged is not None:
            remove_tree(damaged)
        return Layer(digest, self.directory / digest / "root", size_bytes, whole)

    def abandon(self, building: Path) -> None:
        """Remove a directory that `begin` gave, with whatever is mounted in it."""
        try:
            remove_tree(building)
        finally:
            self._unlock(building)

    def use(self, digest: str, at: float) -> Layer | None:
        """The layer of that digest, not dropped until `USE_S` after `at` (Unix seconds); None when it is not there."""
        with self.guard():
            layer = self.get(digest)
            if layer is not None:
                _mark_used(layer.root.parent, at)
            return layer

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """No name of a layer vanishes meanwhile, on this machine. For moments: others wait in their threads."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remove_leftovers(self) -> int:
        """Remove what killed builds left; what somebody builds now stays. Returns how many there were."""
        removed = 0
        for leftover in self.directory.glob(f"{_BUILDING}*") if self.directory.is_dir() else ():
            lock = lock_directory(leftover)
            if lock is not None:
                try:
                    remove_tree(leftover)
                finally:
                    os.close(lock)
                removed += 1
        return removed

    def drop(self, digest: str, now: float) -> bool:
        """Remove a layer unless something of this machine keeps it: a pin, or its use within `USE_S` before `now`.

        The caller made sure that no template and no image names it, and nothing has it mounted (see `layers_in_use`).
        Returns whether it was removed.
        """
        home = self.directory / digest
        with self.guard():
            if is_pinned(home) or _used_at(home) > now - USE_S:
                return False
            doomed = self._take_away(digest)
        if doomed is not None:
            remove_tree(doomed)
        return doomed is not None

    def remove(self, digest: str) -> None:
        """Remove a layer, whatever keeps it. Not there is success."""
        with self.guard():
            doomed = self._take_away(digest)
        if doomed is not None:
            remove_tree(doomed)

    def _take_away(self, digest: str) -> Path | None:
        """Rename it, so that half a layer is never found under its digest; for `remove_tree`. The guard is held."""
        home = self.directory / digest
        if not _DIGEST.fullmatch(digest) or not home.is_dir():
            return None
        doomed = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.directory))
        home.rename(doomed / "removed")
        return doomed

    def _unlock(self, building: Path) -> None:
        lock = self._locks.pop(building, None)
        if lock is not None:
            os.close(lock)

    def layers_in_use(self) -> set[str]:
        """Digests of layers that are part of some mount, in any mount namespace of this machine."""
        pattern = re.compile(re.escape(str(self.directory)) + r"/([0-9a-f]{64})")
        found: set[str] = set()
        for text in _all_mount_tables():
            for mount in mounts.parse_mountinfo(text):
                for place in (mount.source, str(mount.target), *mount.super_options):
                    found.update(pattern.findall(place))
        return found


def _all_mount_tables() -> list[bytes]:
    tables: dict[str, bytes] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = os.readlink(process / "ns/mnt")
            if namespace not in tables:
                tables[namespace] = (process / "mountinfo").read_bytes()
        except OSError:
            # It ended while we looked.
            continue
    return list(tables.values())


def remove_tree(directory: Path) -> None:
    """Remove `directory` and all in it; mounts inside are taken off first, so that nothing of the host is deleted.

    Several may do it at once. Raises Internal when something stays mounted there.
    """
    for target in mounts.mounts_below(directory):
        mounts.detach(target)
    if left := mounts.mounts_below(directory):
        raise Internal(f"{left[0]} cannot be unmounted, so {directory} is left as it is")
    if directory.is_dir():
        shutil.rmtree(directory, onerror=_unless_gone)


def _unless_gone(_function: object, _path: str, failure: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def disk_usage(directory: Path) -> int:
    """Bytes that `directory` takes on disk, each file counted once however many names it has."""
    seen: set[tuple[int, int]] = set()
    total = 0
    stack = [str(directory)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return total


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_out(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(descriptor)
    finally:
        os.close(descriptor)


def lock_directory(directory: Path) -> int | None:
    """A descriptor that holds `directory` as one's own until it is closed; None when somebody else does, or it is
    gone."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(directory)):
            return descriptor
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.ENOENT):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _mark_used(home: Path, at: float) -> None:
    mark = home / _USED
    mark.touch(mode=0o600)
    os.utime(mark, (at, at))


def _used_at(home: Path) -> float:
    try:
        return (home / _USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0
