"""Copying one file into a layer: its data without the holes, its owner, mode, attributes and times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from atolld.host.sparse import data_runs

# Others, as those of SELinux or of the overlay itself, mean something where they came from.
KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_FICLONE = 0x40049409
_PIECE_BYTES = 8 << 20
_SEARCHED_BYTES = 1 << 20


def copy_data(read: int, write: int, told: Callable[[int], None]) -> None:
    """Copy what `read` holds into the empty file `write`: by reflink where that can be, else without the holes.

    `told` hears of every few MiB that were written. Raises OSError, and what `told` raises.
    """
    size = os.fstat(read).st_size
    if not size:
        return
    try:
        fcntl.ioctl(write, _FICLONE, read)
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM):
            raise
    os.ftruncate(write, size)
    for begin, end in data_runs(read):
        start, end = begin, min(end, size)
        os.lseek(write, start, os.SEEK_SET)
        while start < end:
            copied = os.sendfile(write, read, start, min(end - start, _PIECE_BYTES))
            if copied == 0:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            start += copied
            told(copied)


def kept_attributes(file: int) -> dict[str, bytes]:
    """Those extended attributes of an open file or directory that mean something in a layer."""
    return {name: os.getxattr(file, name) for name in sorted(os.listxattr(file)) if name.startswith(KEPT_XATTRS)}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a file or directory has beside its contents. `mode`: the permission bits; `mtime_ns`: Unix time."""

    uid: int
    gid: int
    mode: int
    mtime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> Attributes:
        """Those of a file that is there."""
        return Attributes(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_mtime_ns)

    def put(self, file: int, xattrs: Mapping[str, bytes]) -> None:
        """Give them, and the extended ones, to an open file or directory."""
        # Owner before mode and attributes: the kernel takes set-user-id and capabilities away with a change of owner.
        os.chown(file, self.uid, self.gid)
        os.chmod(file, self.mode)
        for name, value in xattrs.items():
            os.setxattr(file, name, value)
        os.utime(file, ns=(self.mtime_ns, self.mtime_ns))


def copy_special(name: str, source: int, target: int, new_name: str, attributes: Attributes) -> bool:
    """Copy a symbolic link or a named pipe from one directory into another; anything else: False, and nothing is done.

    `source`, `target`: descriptors of the directories. Raises OSError.
    """
    kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind):
        os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)
    elif stat.S_ISFIFO(kind):
        os.mkfifo(new_name, 0o600, dir_fd=target)
    else:
        return False
    os.chown(new_name, attributes.uid, attributes.gid, dir_fd=target, follow_symlinks=False)
    if stat.S_ISFIFO(kind):
        os.chmod(new_name, attributes.mode, dir_fd=target)
    os.utime(new_name, ns=(attributes.mtime_ns,) * 2, dir_fd=target, follow_symlinks=False)
    return True


def holds_any(file: int, needles: Iterable[bytes], limit_bytes: int) -> bool:
    """Whether one of `needles` is in the first `limit_bytes` of an open file. Raises OSError."""
    needles = tuple(needles)
    overlap = max(map(len, needles), default=1) - 1
    before, position = b"", 0
    while position < limit_bytes and (piece := os.pread(file, _SEARCHED_BYTES, position)):
        position += len(piece)
        text = before + piece
        if any(needle in text for needle in needles):
            return True
        before = text[-overlap:] if overlap else b""
    return False
