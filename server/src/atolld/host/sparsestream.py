"""A sparse image as a stream of what in it is not zero.

    8 bytes   number of the block, big-endian, counting from 0, growing
    n bytes   the block: 64 KiB, less for the last one of an image whose size is no multiple

It ends with the block number 2**64 - 1. Blocks of zeros are left out, wherever the file's holes are, so that a copy
gives the same stream.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from atolld.foundation.errors import InvalidArgument

BLOCK_BYTES = 1 << 16
_ZEROS = bytes(BLOCK_BYTES)
_END = (1 << 64) - 1


def read_sparse(path: Path) -> Iterator[bytes]:
    """The stream of the image at `path`. Blocks. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        number = 0
        while (number := _next_data(descriptor, number, size)) * BLOCK_BYTES < size:
            block = os.pread(descriptor, BLOCK_BYTES, number * BLOCK_BYTES)
            if block != _ZEROS[: len(block)]:
                yield number.to_bytes(8, "big") + block
            number += 1
        yield _END.to_bytes(8, "big")
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, number: int, size: int) -> int:
    """The first block from `number` on that the file system says holds data; past the end when none does."""
    try:
        return max(number, os.lseek(descriptor, number * BLOCK_BYTES, os.SEEK_DATA) // BLOCK_BYTES)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size // BLOCK_BYTES + 1


class SparseWriter:
    """Writes such a stream into a new file of `size_bytes`. Its bytes may come cut anywhere.

    Raises InvalidArgument on blocks beyond the end, out of order or after the end; OSError.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._size = size_bytes
        self._next = 0
        self._buffer = bytearray()
        self._ended = False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, data: bytes) -> None:
        """The next bytes of the stream."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= 8:
            number = int.from_bytes(self._buffer[start : start + 8], "big")
            if self._ended:
                break
            if number == _END:
                self._ended = True
                start += 8
                continue
            length = min(BLOCK_BYTES, self._size - number * BLOCK_BYTES)
            if number < self._next or length <= 0:
                raise InvalidArgument(f"the archive is damaged: the disk has a block {number} out of its place")
            if len(self._buffer) - start < 8 + length:
                break
            block = self._buffer[start + 8 : start + 8 + length]
            if os.pwrite(self._descriptor, block, number * BLOCK_BYTES) != length:
                raise OSError(errno.ENOSPC, "a block was written in part")
            self._next = number + 1
            start += 8 + length
        del self._buffer[:start]
        if self._ended and self._buffer:
            raise InvalidArgument("the archive is damaged: something follows the end of the disk")

    def finish(self) -> None:
        """All was written. Raises InvalidArgument when the stream has not ended."""
        if not self._ended:
            raise InvalidArgument("the archive is damaged: the disk is cut off")

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
