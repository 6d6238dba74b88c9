"""Saves on disk: a sandbox's disk and, when it was saved running, its memory.

    <state>/layers/.saves/      0700; on the store, so that a disk gets into a save and out of it by a clone
      <id>.part/                being written; left by a daemon that was killed, removed by the next
      <id>/                     whole: given its name only when all of it is on the disk
        manifest.json           what it is, with checksums (`atolld.host.manifest`)
        disk.img                the writable layer, ext4, cleanly unmounted
        memory/                 the runtime's own files; empty when only files were saved
        envs.json               0600; variables of its processes, when they are known; never exported
      <id>.gone/                being deleted

A whole save is never changed. Everything here blocks; hashing 200 MB takes 30 ms when it is in memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from atolld.core.snapshot import SaveKind
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AlreadyExists, Capacity, FailedPrecondition, NotFound
from atolld.host.checksums import disk_checksum, file_checksum
from atolld.host.cpuflags import read_cpu_flags
from atolld.host.instance import check_item
from atolld.host.manifest import NAME, DiskImage, Manifest, MemoryFile, parse_manifest
from atolld.host.sparse import clone_file
from atolld.host.templatelayers import TemplateLayers

log = logging.getLogger("atolld.saves")

DISK = "disk.img"
ENVS = "envs.json"
MEMORY = "memory"
_PART = ".part"
_GONE = ".gone"


class Saves:
    """The saves in one directory.

    `templates`: the read-only layers that saved disks lie on. `verify_disk_bytes`: a disk with more data than this is
    not verified by `check`, since reading it would take longer than a start may.
    """

    def __init__(self, directory: Path, templates: TemplateLayers, *, verify_disk_bytes: int) -> None:
        self.directory = directory
        self.templates = templates
        self._verify_disk_bytes = verify_disk_bytes
        self._writing: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, id: str) -> Path:
        """Begin the save `id` and return the empty directory for its memory files.

        Raises AlreadyExists when it exists or is being written, Capacity, OSError.
        """
        part = self._part(id)
        with self._lock:
            if id in self._writing or self.home(id).exists():
                raise AlreadyExists(f"save {id} exists")
            self._writing.add(id)
        try:
            with no_room(f"save {id}"):
                # A killed daemon's.
                _remove(part)
                self.directory.mkdir(mode=0o700, exist_ok=True)
                part.mkdir(mode=0o700)
                (part / MEMORY).mkdir(mode=0o700)
        except BaseException:
            self.abandon(id)
            raise
        crash_point("save_files.begun")
        return part / MEMORY

    def add_disk(self, id: str, image: Path) -> None:
        """Clone `image`, which holds still, into the save begun.

        Raises NotFound when it was not begun or there is no image, Capacity, OSError.
        """
        part = self._begun(id)
        try:
            with no_room(f"the disk of save {id}"):
                clone_file(image, part / DISK)
        except FileNotFoundError as error:
            raise NotFound(f"there is no disk {image}") from error
        crash_point("save_files.has_disk")

    def finish(
        self,
        id: str,
        kind: SaveKind,
        engine: str,
        *,
        layers: tuple[Path, ...],
        created_at: float,
        stopped_s: float,
        cpu_flags: frozenset[str] | None = None,
        needs_address: bool = True,
        envs: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Make the save begun whole: checksums, manifest, all to the disk, its name.

        `layers`: roots of the read-only layers below its disk. `cpu_flags`: of the CPU that it was made on, None: this
        one. `needs_address`: see `Manifest`. `envs`: see the method. Raises NotFound when it was not begun or has no
        disk, Capacity, Internal when a path is no template's layer, OSError; the save can be abandoned then.
        """
        part = self._begun(id)
        flags = read_cpu_flags() if cpu_flags is None else cpu_flags
        digests = tuple(map(self.templates.digest, layers))
        with no_room(f"save {id}"):
            manifest = self._describe(id, part, kind, engine, digests, created_at, stopped_s, flags)
            manifest = replace(manifest, needs_address=needs_address)
            crash_point("save_files.hashed")
            (part / NAME).write_text(manifest.to_text(), encoding="utf-8")
            crash_point("save_files.described")
            noted = self._note_envs(part, envs)
            # Before the save is there: its layers must not go while it is.
            self.templates.pin(id, digests)
            crash_point("save_files.pinned")
            for path in (*(part / MEMORY / file.name for file in manifest.memory), part / DISK, part / NAME, *noted):
                _sync(path)
            _sync(part / MEMORY)
            _sync(part)
            part.rename(self.home(id))
            _sync(self.directory)
        crash_point("save_files.named")
        self._writing.discard(id)
        return manifest

    def abandon(self, id: str) -> None:
        """Remove a save that was begun; not begun or finished is success. Raises OSError."""
        _remove(self._part(id))
        if not self.home(id).exists():
            self.templates.unpin(id)
        self._writing.discard(id)

    def home(self, id: str) -> Path:
        """The whole save's directory, there or not. Raises InvalidArgument on a bad id."""
        return self.directory / check_item(id)

    def manifest(self, id: str) -> Manifest:
        """Raises NotFound; FailedPrecondition when it is damaged or of a newer version."""
        try:
            text = (self.home(id) / NAME).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            if self.home(id).exists():
                raise FailedPrecondition(f"save {id} is damaged: {NAME} is gone") from None
            raise NotFound(f"there is no save {id} on this machine") from None
        try:
            return parse_manifest(text)
        except FailedPrecondition as error:
            raise FailedPrecondition(f"save {id} cannot be read: {error.message}") from error

    def envs(self, id: str) -> dict[str, str]:
        """See `Machine.envs`."""
        self.manifest(id)
        try:
            values = json.loads((self.home(id) / ENVS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise FailedPrecondition(f"save {id} is damaged: {ENVS} is not as it was written") from error
        return {str(name): str(value) for name, value in dict(values).items()}

    def check(self, id: str, kind: SaveKind, engine: str | None) -> Path:
        """See `Machine.check_save`."""
        manifest = self.manifest(id)
        if kind is SaveKind.MEMORY:
            self._check_memory_fits(manifest, engine)
        for digest in manifest.layers:
            if not self.templates.root(digest).is_dir():
                raise FailedPrecondition(
                    f"save {id} lies on the template layer {digest}, which is gone from {self.templates.directory}"
                )
        with_disk = manifest.disk.data_bytes <= self._verify_disk_bytes
        if kind is SaveKind.MEMORY:
            self._verify_memory(manifest, read=False)
        self._verify_disk(manifest, read=with_disk)
        return self.home(id) / MEMORY

    def check_memory(self, id: str) -> None:
        """See `Machine.check_memory`."""
        self._verify_memory(self.manifest(id), read=True)

    def verify(self, id: str) -> Manifest:
        """Read all of the save and compare it with its checksums. Raises NotFound, FailedPrecondition naming a file."""
        manifest = self.manifest(id)
        self._verify_memory(manifest, read=True)
        self._verify_disk(manifest, read=True)
        return manifest

    def ids(self) -> list[str]:
        """Ids of the whole saves."""
        return [name for name in self._names() if "." not in name]

    def discard(self, id: str) -> None:
        """Delete a save; gone is success. Raises OSError."""
        home = self.home(id)
        gone = home.with_name(f"{id}{_GONE}")
        _remove(gone)
        with contextlib.suppress(FileNotFoundError):
            # Renamed first: half a save must never bear its name.
            home.rename(gone)
            crash_point("discard_files.renamed")
        _remove(gone)
        if id not in self._writing:
            self.templates.unpin(id)

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Delete every save not in `keep`, and what is left of half ones; not those being written. Returns them."""
        doomed = set()
        for name in self._names():
            id, dot, _ = name.partition(".")
            if id in self._writing or (not dot and id in keep):
                continue
            doomed.add(id)
            if dot:
                _remove(self.directory / name)
            else:
                self.discard(id)
        self.templates.unpin_all_but({*self.ids(), *self._writing})
        return sorted(doomed)

    def remove_all(self) -> None:
        """Delete every save and the directory. Raises OSError."""
        self.sweep(())
        _remove(self.directory)

    def _note_envs(self, part: Path, envs: Mapping[str, str] | None) -> list[Path]:
        if not envs:
            return []
        path = part / ENVS
        # 0600 from the start: they may be secrets.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(dict(envs), file)
        return [path]

    def _describe(
        self,
        id: str,
        part: Path,
        kind: SaveKind,
        engine: str,
        layers: tuple[str, ...],
        created_at: float,
        stopped_s: float,
        cpu_flags: frozenset[str],
    ) -> Manifest:
        memory, memory_bytes = [], 0
        for name in sorted(os.listdir(part / MEMORY)):
            status = (part / MEMORY / name).lstat()
            memory.append(MemoryFile(name, status.st_size, file_checksum(part / MEMORY / name)))
            memory_bytes += status.st_blocks * 512
        try:
            status = (part / DISK).stat()
        except FileNotFoundError as error:
            raise NotFound(f"save {id} has no disk yet") from error
        disk = DiskImage(status.st_size, status.st_blocks * 512, disk_checksum(part / DISK))
        return Manifest(
            id=id,
            kind=kind,
            engine=engine,
            created_at=created_at,
            stopped_s=stopped_s,
            layers=layers,
            cpu_flags=cpu_flags,
            memory=tuple(memory),
            disk=disk,
            memory_bytes=memory_bytes,
        )

    def _check_memory_fits(self, manifest: Manifest, engine: str | None) -> None:
        if manifest.kind is not SaveKind.MEMORY:
            raise FailedPrecondition(f"save {manifest.id} holds files only, no memory to go on from")
        if engine is not None and engine != manifest.engine:
            raise FailedPrecondition(
                f"the memory of save {manifest.id} was written by {manifest.engine}, which alone can read it; this "
                f"machine has {engine}. Its files can still be used"
            )
        missing = manifest.cpu_flags - read_cpu_flags()
        if missing:
            raise FailedPrecondition(
                f"save {manifest.id} was made on a CPU with {', '.join(sorted(missing))}, which this one lacks; its "
                "programs may rely on that. Its files can still be used"
            )

    def _verify_disk(self, manifest: Manifest, *, read: bool) -> None:
        _compare(manifest.id, self.home(manifest.id) / DISK, DISK, manifest.disk, read=read)

    def _verify_memory(self, manifest: Manifest, *, read: bool) -> None:
        for file in manifest.memory:
            path = self.home(manifest.id) / MEMORY / file.name
            _compare(manifest.id, path, f"{MEMORY}/{file.name}", file, read=read)

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []

    def _part(self, id: str) -> Path:
        return self.directory / f"{check_item(id)}{_PART}"

    def _begun(self, id: str) -> Path:
        part = self._part(id)
        if id not in self._writing or not part.is_dir():
            raise NotFound(f"save {id} was not begun")
        return part


@contextlib.contextmanager
def no_room(what: str) -> Iterator[None]:
    """Tell of a full disk as Capacity. `what` could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Capacity(f"{what} cannot be written: the disk is full; delete snapshots or sandboxes") from error


def _compare(id: str, path: Path, name: str, expected: MemoryFile | DiskImage, *, read: bool = True) -> None:
    try:
        size = path.lstat().st_size
        if size != expected.size_bytes:
            raise FailedPrecondition(f"save {id} is damaged: {name} has {size} bytes instead of {expected.size_bytes}")
        if not read:
            return
        found = disk_checksum(path) if isinstance(expected, DiskImage) else file_checksum(path)
    except FileNotFoundError:
        raise FailedPrecondition(f"save {id} is damaged: {name} is gone") from None
    except OSError as error:
        raise FailedPrecondition(f"save {id} is damaged: {name} cannot be read: {error}") from error
    if found != expected.checksum:
        raise FailedPrecondition(f"save {id} is damaged: {name} is not as it was written (its checksum differs)")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
