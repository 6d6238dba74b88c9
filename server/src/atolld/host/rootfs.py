"""A sandbox's root file system: an overlay of shared read-only layers and its own writable layer.

Mounted at `<state>/sandboxes/<id>/rootfs`. The options, and why:

    index=off          a copied or cloned writable layer must mount over the same lower layers again; with the index,
                       overlayfs refuses it because file handles inside it name the original
    metacopy=off       a changed owner or mode copies the file: a layer then holds whole files, and can be cloned,
                       exported and inspected by itself
    redirect_dir=on    a directory of the template can be renamed (package managers do), instead of failing with EXDEV
    xino=auto          all files of the sandbox have one device number where inode numbers allow, so that `find -xdev`,
                       `du -x` and hard-link detection work
    nodev              a device file made by a guest is no device for the host. Not nosuid: sudo works inside. No other
                       user of the host reaches the mount, because its parent directory is 0700
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from atolld.foundation.errors import InvalidArgument
from atolld.host import mounts, syscalls
from atolld.host.instance import Instance, check_item
from atolld.host.layers import Layer

log = logging.getLogger("atolld.rootfs")

MAX_LOWER = 500
_FLAGS = syscalls.MS_NODEV | syscalls.MS_NOATIME
_FIXED = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "on"), ("xino", "auto"))
# mount(2) takes one page of options, its end included.
_MAX_DATA = 4000
_UNMOUNT_WAIT_S = 1.0


class RootFilesystems:
    """The root file systems of one instance's sandboxes."""

    def __init__(self, instance: Instance) -> None:
        self.directory = instance.state_dir / "sandboxes"

    def prepare(self) -> None:
        """Make the directory, closed to other users and seen by other mount namespaces. Idempotent. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        mounts.make_shared(self.directory)

    def path(self, id: str) -> Path:
        """Where the root file system of `id` is mounted. Raises InvalidArgument on a bad id."""
        return self.directory / check_item(id) / "rootfs"

    async def mount(self, id: str, lower: Sequence[Path], layer: Layer) -> Path:
        """Mount the overlay and return its path; mounted already is success. 2 to 5 ms.

        `lower`: read-only directories, the topmost first, 1 to 500. `layer`: a mounted writable layer, used by nothing
        else. Raises InvalidArgument on no or too many lower layers or a path overlayfs cannot take, OSError.
        """
        options = overlay_options(lower, layer.upper, layer.work)
        target = self.path(id)
        await asyncio.to_thread(_mount, target, options)
        return target

    async def unmount(self, id: str, *, detach: bool = True) -> None:
        """Unmount the overlay and remove its mount point; gone is success. Its processes should be dead.

        Tries for a second. What is busy even then is detached and logged: it leaves the tree at once, and the kernel
        ends it with its last user. With `detach` False (the writable layer is to be saved whole) it stays as it is.

        Raises OSError (EBUSY only with `detach` False).
        """
        target = self.path(id)
        try:
            await asyncio.to_thread(mounts.unmount_patiently, target, _UNMOUNT_WAIT_S)
        except OSError as error:
            if error.errno != errno.EBUSY or not detach:
                raise
            log.warning("root file system of %s is still in use; detaching it", id)
            await asyncio.to_thread(mounts.detach, target)
        with contextlib.suppress(FileNotFoundError):
            target.rmdir()
        with contextlib.suppress(OSError):
            # Only when empty: the driver keeps its own files beside the mount point.
            target.parent.rmdir()

    def list_owned(self) -> list[str]:
        """Ids of every sandbox whose root file system is mounted."""
        found = []
        for mount in mounts.read_mounts():
            if mount.target.name == "rootfs" and mount.target.parent.parent == self.directory:
                found.append(mount.target.parent.name)
        return found

    def remove_all(self) -> None:
        """Unmount everything below the directory and the directory's own mount; files stay. Blocks. Raises OSError."""
        for target in mounts.mounts_below(self.directory):
            mounts.unmount(target)


def overlay_options(lower: Sequence[Path], upper: Path, work: Path) -> list[tuple[str, str]]:
    """The overlay's options in order, `lowerdir+` once per layer (`mount_data` joins them).

    Raises InvalidArgument on no or more than 500 lower layers, or a path with a character that means something there.
    """
    if not 1 <= len(lower) <= MAX_LOWER:
        raise InvalidArgument(f"a root file system has 1 to {MAX_LOWER} layers, not {len(lower)}")
    _check_paths((*lower, upper, work))
    return [
        *(("lowerdir+", str(path)) for path in lower),
        ("upperdir", str(upper)),
        ("workdir", str(work)),
        *_FIXED,
    ]


def mount_read_only(target: Path, lower: Sequence[Path], flags: int) -> None:
    """Mount layers, the topmost first, without one to write to; at least two, as overlayfs wants. Blocks.

    A sandbox's `upper` can be the topmost. Raises InvalidArgument on a path overlayfs cannot take, OSError.
    """
    _check_paths(lower)
    fixed = [(key, "follow" if key == "redirect_dir" else value) for key, value in _FIXED]
    mount_options(target, [*(("lowerdir+", str(path)) for path in lower), *fixed], flags)


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_absolute() or re.search(r"[:,\\\n\0]", str(path)):
            raise InvalidArgument(f"{str(path)!r} cannot be a layer: an absolute path without ':', ',' and backslash")


def mount_data(options: Sequence[tuple[str, str]]) -> str:
    """The same options as mount(2) takes them: one string, lower layers joined by colons."""
    lower = ":".join(value for key, value in options if key == "lowerdir+")
    return ",".join([f"lowerdir={lower}", *(f"{key}={value}" for key, value in options if key != "lowerdir+")])


def _mount(target: Path, options: list[tuple[str, str]]) -> None:
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    if mounts.is_mounted(target):
        return
    mount_options(target, options, _FLAGS)


def mount_options(target: Path, options: list[tuple[str, str]], flags: int) -> None:
    """Mount an overlay with these options, as `overlay_options` gives them, also when there are very many. Blocks.

    Raises OSError.
    """
    data = mount_data(options)
    if len(data.encode()) < _MAX_DATA:
        syscalls.mount("overlay", target, "overlay", flags, data)
    else:
        _mount_by_links(target, options, flags)


def _mount_by_links(target: Path, options: list[tuple[str, str]], flags: int) -> None:
    """The same with the lower layers named by links `0`, `1`, ... in the working directory: 500 fit into the page.

    `lowerdir+` of the new mount interface would do it without tricks, but needs a kernel of 6.8.
    """
    links = target.with_name("lower")
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir(mode=0o700)
    short = []
    for number, path in enumerate(value for key, value in options if key == "lowerdir+"):
        (links / str(number)).symlink_to(path)
        short.append(("lowerdir+", str(number)))
    data = mount_data([*short, *(option for option in options if option[0] != "lowerdir+")])
    failures: list[OSError] = []

    def work() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_FS)
            os.chdir(links)
            syscalls.mount("overlay", target, "overlay", flags, data)
        except OSError as error:
            failures.append(error)

    # A thread of its own: the working directory is the whole process's until unshared, and cannot be given back.
    thread = threading.Thread(target=work, name="mount-overlay")
    thread.start()
    thread.join()
    shutil.rmtree(links)
    if failures:
        raise failures[0]
