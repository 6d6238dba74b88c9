"""The file system that writable layers and saves lie on: one that can clone a file without copying it, where possible.

    <state>/layers/       layers, and saves in `.saves/`; on it is mounted, unless the store is plain:
    <state>/store.xfs     a sparse image with an XFS of 4096-byte sectors and reflink, on a loop device

Saving a sandbox clones its disk, and starting from the save clones it again. Where the state directory's own file
system can do that (XFS, btrfs, bcachefs), the store is plain: a directory like any other. Elsewhere (ext4) an XFS of
our own is laid over it. What was chosen stays: a store that exists is opened again as it is, since saves lie in it.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from atolld.foundation.errors import Unavailable
from atolld.foundation.units import GIB, MIB, format_bytes
from atolld.host import facts, loopdev, mounts, syscalls
from atolld.host.instance import Instance
from atolld.host.sparse import can_clone

log = logging.getLogger("atolld.store")

# mkfs.xfs refuses less.
MIN_STORE_MIB = 300
_LEAST_AUTO_BYTES = GIB
_MKFS = "mkfs.xfs"
_FILESYSTEMS = Path("/proc/filesystems")
_FLAGS = syscalls.MS_NODEV | syscalls.MS_NOATIME
_FORMAT_TIMEOUT_S = 60


class StoreKind(StrEnum):
    """PLAIN: a directory of the state directory's file system. XFS: a file system of its own in an image."""

    PLAIN = "plain"
    XFS = "xfs"


class StoreChoice(StrEnum):
    """What an operator may ask for. AUTO: plain when that can clone, else XFS, else plain."""

    AUTO = "auto"
    PLAIN = "plain"
    XFS = "xfs"


@dataclass(frozen=True, slots=True)
class StorePlan:
    """What the store is or would be made as, and why, in one sentence. `clones`: whether saving costs no copy."""

    kind: StoreKind
    reason: str
    clones: bool


class DiskStore:
    """The store of one instance.

    `size_mib`: of a new XFS image; None: what is free when it is made, less `reserve_mib`. An image does not grow.
    """

    def __init__(
        self,
        instance: Instance,
        *,
        choice: StoreChoice = StoreChoice.AUTO,
        size_mib: int | None = None,
        reserve_mib: int = 0,
        direct_io: bool = True,
    ) -> None:
        self.directory = instance.state_dir / "layers"
        self.image = instance.state_dir / "store.xfs"
        self._state = instance.state_dir
        self._choice = choice
        self._size_mib = size_mib
        self._reserve_mib = reserve_mib
        self._direct_io = direct_io

    def plan(self) -> StorePlan:
        """What `open` would do now; changes nothing but for a clone of an empty file. Blocks for milliseconds."""
        if self.image.exists():
            return StorePlan(StoreKind.XFS, f"{self.image} is there", True)
        clones = can_clone(_existing(self._state))
        if self._choice is StoreChoice.PLAIN:
            return StorePlan(StoreKind.PLAIN, "the setting disk_store asks for it", clones)
        if self._has_contents():
            return StorePlan(
                StoreKind.PLAIN, f"running sandboxes or saves lie in {self.directory} as a plain directory", clones
            )
        if self._choice is StoreChoice.AUTO and clones:
            return StorePlan(StoreKind.PLAIN, "the file system of the state directory can clone files", True)
        if problem := self._problem():
            return StorePlan(StoreKind.PLAIN, problem, clones)
        return StorePlan(StoreKind.XFS, "the file system of the state directory cannot clone files", True)

    def open(self) -> StorePlan:
        """Make the store when there is none, mount it when it is not mounted, and say what it is. Blocks: 50 ms.

        Raises Unavailable when an image is there that cannot be mounted, and when the setting asks for XFS and it
        cannot be had; OSError.
        """
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan = self.plan()
        if plan.kind is StoreKind.PLAIN:
            return self._plain(plan)
        if self.is_mounted():
            return plan
        made = not self.image.exists()
        if made:
            self._format()
        self._clear_place()
        try:
            self._mount()
        except OSError as error:
            if not made or self._choice is StoreChoice.XFS:
                raise Unavailable(
                    f"the store {self.image} cannot be mounted: {error}; look at the kernel's log (dmesg)"
                ) from error
            self.image.unlink()
            return self._plain(StorePlan(StoreKind.PLAIN, f"an XFS cannot be mounted: {error}", False))
        log.info("disks lie on %s: %s", self.image, plan.reason)
        return plan

    def is_mounted(self) -> bool:
        """Whether the image is mounted at its place."""
        device = loopdev.list_attached(self._state).get(self.image)
        here = [mount for mount in mounts.read_mounts() if mount.target == self.directory]
        return device is not None and any(mount.source == str(device) for mount in here)

    def free_bytes(self) -> int:
        """What new data can take: an image has room only as long as the file system that holds it has."""
        return min(facts.read_disk(self.directory).free, facts.read_disk(self._state).free)

    def remove(self) -> None:
        """Unmount and delete the store with all that lies in it; gone is success. Raises OSError (EBUSY in use)."""
        for target in mounts.mounts_below(self.directory):
            mounts.unmount(target)
        self.image.unlink(missing_ok=True)

    def _plain(self, plan: StorePlan) -> StorePlan:
        if self._choice is StoreChoice.XFS and not self._has_contents():
            raise Unavailable(f"the setting disk_store is xfs, but {plan.reason}; set it to auto or plain")
        self.directory.mkdir(mode=0o700, exist_ok=True)
        level = logging.INFO if plan.clones else logging.WARNING
        log.log(level, "disks lie in the plain directory %s: %s", self.directory, plan.reason)
        return plan

    def _has_contents(self) -> bool:
        """Whether the plain directory holds what must stay: a mounted disk of a sandbox, or a save."""
        mounted = {mount.target for mount in mounts.read_mounts()}
        for directory in _subdirectories(self.directory):
            if directory / "mnt" in mounted and not directory.name.startswith(("ready-", ".")):
                return True
        return bool(_subdirectories(self.directory / ".saves"))

    def _problem(self) -> str | None:
        if _find_mkfs() is None:
            return "mkfs.xfs is not installed; install the package xfsprogs"
        if not kernel_has_xfs():
            return "the kernel has no xfs"
        size = self._size_bytes()
        least = MIN_STORE_MIB * MIB if self._size_mib is not None else _LEAST_AUTO_BYTES
        if size < least:
            return f"a store of {format_bytes(max(0, size))} would be too small: it needs {format_bytes(least)}"
        return None

    def _size_bytes(self) -> int:
        if self._size_mib is not None:
            return self._size_mib * MIB
        # Whole MiB: an XFS whose size is no multiple of its sector cannot be mounted.
        return (facts.read_disk(self._state).free // MIB - self._reserve_mib) * MIB

    def _format(self) -> None:
        new = self.image.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, self._size_bytes())
            command = [_find_mkfs() or _MKFS, "-q", "-K", "-s", "size=4096", "-m", "reflink=1", str(new)]
            told = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_FORMAT_TIMEOUT_S, check=False
            )
            if told.returncode != 0:
                raise Unavailable(f"mkfs.xfs cannot make a store: {(told.stderr or told.stdout).strip()[:500]}")
            # A store that is there is never made anew, so one that is half written must not be there.
            os.fsync(descriptor)
        except BaseException:
            new.unlink()
            raise
        finally:
            os.close(descriptor)
        new.rename(self.image)

    def _clear_place(self) -> None:
        """Take away what an earlier daemon left in the plain directory; nothing in it lives (see `_has_contents`)."""
        for target in mounts.mounts_below(self.directory):
            mounts.unmount(target)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def _mount(self) -> None:
        with loopdev.attached(self.image, direct_io=self._direct_io) as device:
            syscalls.mount(str(device), self.directory, "xfs", _FLAGS, "discard")
        self.directory.chmod(0o700)


def kernel_has_xfs() -> bool:
    """Whether the kernel has XFS, or a module of it that it would load."""
    if "xfs" in facts.parse_filesystems(_FILESYSTEMS.read_text()):
        return True
    modules = Path("/lib/modules") / platform.release()
    for name in ("modules.dep", "modules.builtin"):
        try:
            if "/xfs.ko" in (modules / name).read_text(errors="replace"):
                return True
        except OSError:
            continue
    return False


def _find_mkfs() -> str | None:
    # A daemon started by hand may have no sbin in its path.
    return shutil.which(_MKFS) or shutil.which(_MKFS, path="/usr/sbin:/sbin")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _subdirectories(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return []
