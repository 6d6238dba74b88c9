"""What the driver sees and changes in a sandbox's root file system before the guest runs."""

from __future__ import annotations

import os
from pathlib import Path

from atolld.runtime.drivers.gvisor.bundle import SUDO_PATH


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


def has_sudo(rootfs: Path) -> bool:
    """Whether the image has its sudo where ours can take its place: a regular file, by no symbolic link."""
    path = rootfs
    for name in SUDO_PATH.strip("/").split("/"):
        path /= name
        if path.is_symlink():
            return False
    return path.is_file()
