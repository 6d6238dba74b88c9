"""Another root file system for processes that run already in a mount namespace of their own.

A mount that is made on the host does not reach them: their root was cut off from the host's mounts when they started.
So copies of the mounts are carried into their namespace by descriptor, by a thread that enters it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.foundation.aio import spawn
from atolld.host import mountcalls, syscalls


@dataclass(frozen=True, slots=True)
class Bind:
    """A file of the host that appears, read-only, at `target`, an absolute path in the new root that exists there."""

    source: Path
    target: str


async def replace_root(pid: int, rootfs: Path, binds: Sequence[Bind]) -> None:
    """Give `pid`, and all in its mount namespace that have the same root, the mount at `rootfs` as root. 1 to 6 ms.

    It must be in a mount namespace of its own. The old root is unmounted there. `rootfs` stays mounted on the host; the
    copy keeps its file system in use until the namespace ends.

    When it raises, the root may be the old or the new one: end the process. Raises OSError, also when a symbolic link
    is on the way to a target. A cancelled caller waits for the end of it.
    """
    work = spawn(asyncio.to_thread(_replace_root, pid, rootfs, binds), name="replace-root", report=False)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def has_root(pid: int, directory: Path) -> bool:
    """Whether the root directory of `pid` is `directory`, by whatever mount. Raises OSError when either is gone."""
    return os.path.samestat(os.stat(f"/proc/{pid}/root/"), os.stat(directory))


def _replace_root(pid: int, rootfs: Path, binds: Sequence[Bind]) -> None:
    with contextlib.ExitStack() as opened:

        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        namespace = keep(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        if os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/mnt")):
            # It would be the daemon's own root that is replaced.
            raise OSError(0, f"process {pid} has no mount namespace of its own")
        old_root = keep(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        overlay = keep(mountcalls.clone_mount(rootfs))
        # The copy is of the host's peer group still: the binds below would appear on the host as well.
        mountcalls.set_attributes(overlay, 0, syscalls.MS_PRIVATE)
        files: list[tuple[int, str]] = []
        for bind in binds:
            file = keep(mountcalls.clone_mount(bind.source))
            # Read-only before anybody in there can reach it: no descriptor of it changes the host's file, its mode or
            # its owner.
            attributes = mountcalls.MOUNT_ATTR_RDONLY | mountcalls.MOUNT_ATTR_NOSUID
            mountcalls.set_attributes(file, attributes, syscalls.MS_PRIVATE)
            files.append((file, bind.target))
        _in_thread(lambda: _swap(namespace, old_root, overlay, files))
    if not has_root(pid, rootfs):
        raise OSError(0, f"process {pid} does not have its new root")


def _swap(namespace: int, old_root: int, overlay: int, files: Sequence[tuple[int, str]]) -> None:
    # Root and working directory are the whole process's until unshared; a thread that shares them may not enter.
    syscalls.unshare(syscalls.CLONE_FS)
    syscalls.setns(namespace, syscalls.CLONE_NEWNS)
    # pivot_root changes the root of those who have the caller's: so it becomes theirs, which is not the namespace's.
    os.fchdir(old_root)
    os.chroot(".")
    # On top of the old root. Whoever stands below a mount does not see it; ".." of the root leads up into it.
    mountcalls.attach_at(overlay, "/")
    os.chdir("/..")
    for file, target in files:
        # The file system is the guest's: a symbolic link of it would lead through the thread's own root.
        place = _open_beneath(target)
        try:
            mountcalls.attach(file, place)
        finally:
            os.close(place)
    # Twice the same: the old root comes to lie on top of the new one, from where it is taken off.
    mountcalls.pivot_root(".", ".")
    syscalls.umount(Path("."), syscalls.MNT_DETACH)


def _open_beneath(target: str) -> int:
    """A descriptor of `target` below the working directory, by no symbolic link. Raises OSError."""
    *directories, name = target.strip("/").split("/")
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(".", flags | os.O_DIRECTORY)
    try:
        for directory in directories:
            below = os.open(directory, flags | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, flags, dir_fd=here)
    finally:
        os.close(here)


def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread that ends after it: it can never get back to where it was."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="replace-root")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
