"""A log of its own for what runs before it has a disk: a file in memory, bounded by a file system of its own.

At `<state>/sandboxes/<id>/log/agent.log`. The output of a sandbox with a disk lies on that disk; what is started before
there is one keeps the file that it was given.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from atolld.host import mounts, syscalls
from atolld.host.instance import Instance, check_item

# A guest's root can fill it; it is charged to the sandbox's memory.
SIZE_KIB = 1024
_NAME = "agent.log"
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


class OwnLogs:
    """The logs in memory of one instance. All of it blocks, for less than a millisecond."""

    def __init__(self, instance: Instance) -> None:
        self._directory = instance.state_dir / "sandboxes"

    def path(self, id: str) -> Path:
        """Where the log of `id` is, if it has one. Raises InvalidArgument on a bad id."""
        return self._directory / check_item(id) / "log" / _NAME

    def create(self, id: str) -> Path:
        """An empty log. Raises OSError."""
        file = self.path(id)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not mounts.is_mounted(file.parent):
            syscalls.mount("none", file.parent, "tmpfs", _FLAGS, f"size={SIZE_KIB}k,nr_inodes=8,mode=0700")
        file.touch(mode=0o640)
        return file

    def remove(self, id: str) -> None:
        """Remove the log; none is success. One that is still written to goes with its last writer. Raises OSError."""
        directory = self.path(id).parent
        try:
            mounts.unmount(directory)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            mounts.detach(directory)
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
