"""What the driver sees and changes in a sandbox's root file system before the guest runs."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from atolld.runtime.drivers.gvisor.bundle import AGENT_PATH, SUDO_PATH


def keep_tmp_on_disk(rootfs: Path) -> None:
    """Make sure the guest's /tmp, when it has one, is not empty.

    gVisor covers an empty /tmp with a file system in memory: a large file there would not meet the disk limit but the
    memory limit, which ends the sandbox. The directory made is one that every desktop Linux has. `rootfs` comes from a
    template or a save, so no symbolic link in it is followed.
    """
    try:
        descriptor = os.open(rootfs / "tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # None, or a symbolic link: gVisor decides then.
        return
    try:
        if not os.listdir(descriptor):
            os.mkdir(".X11-unix", 0o755, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def make_agent_place(rootfs: Path) -> None:
    """The file that the agent is mounted over, as runsc makes it. There already is success.

    Raises OSError when something else is in its place: no symbolic link is followed.
    """
    directory, name = AGENT_PATH.strip("/").split("/")
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | flags)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755, dir_fd=root)
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | flags, dir_fd=root)
    finally:
        os.close(root)
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o755, dir_fd=place))
        if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
            raise OSError(errno.EEXIST, "no file", AGENT_PATH)
    finally:
        os.close(place)


def layers_have_sudo(layers: Sequence[Path]) -> bool:
    """As `has_sudo`, of what lies on read-only layers, lowest first.

    It may be wrong where one layer replaces a directory of another as a whole.
    """
    name = SUDO_PATH.strip("/")
    for layer in reversed(layers):
        if os.path.lexists(layer / name):
            return has_sudo(layer)
    return False


def has_sudo(rootfs: Path) -> bool:
    """Whether the image has its sudo where ours can take its place: a regular file, by no symbolic link."""
    path = rootfs
    for name in SUDO_PATH.strip("/").split("/"):
        path /= name
        if path.is_symlink():
            return False
    return path.is_file()
