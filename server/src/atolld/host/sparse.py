"""Copying files with holes in them."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FICLONE = 0x40049409
_NO_REFLINK = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM}


def can_clone(directory: Path) -> bool:
    """Whether the file system of `directory` clones files (reflink). Tried with two unnamed or short-lived files.

    False where nothing may be written.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as source, tempfile.TemporaryFile(dir=directory) as target:
            source.write(b"x" * 4096)
            source.flush()
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            return True
    except OSError:
        return False


def clone_file(source: Path, target: Path) -> bool:
    """Copy `source` to the new file `target`: by reflink where the file system has it, else its data without the holes.

    Returns True when it was a reflink (no data was copied). Blocks as long as the copy takes. Raises OSError
    (FileExistsError, ENOSPC); a half copy is removed.
    """
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.ioctl(write, _FICLONE, read)
                return True
            except OSError as error:
                if error.errno not in _NO_REFLINK:
                    raise
            _copy_data(read, write)
            return False
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            os.close(write)
    finally:
        os.close(read)


def data_runs(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where the file system says that an open file holds data: start and end of each run, in order. Raises OSError."""
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _copy_data(read: int, write: int) -> None:
    os.ftruncate(write, os.fstat(read).st_size)
    for begin, end in data_runs(read):
        start = begin
        while start < end:
            copied = os.copy_file_range(read, write, end - start, start, start)
            if copied == 0:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            start += copied
