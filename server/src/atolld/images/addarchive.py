"""The archives that ADD unpacks: a tar, plain or compressed with gzip, bzip2, xz or zstd; told by what is in them."""

from __future__ import annotations

import bz2
import lzma
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from atolld.foundation.errors import InvalidArgument
from atolld.images.decompress import LayerStream, limit_of, open_layer

_XZ, _BZIP2 = b"\xfd7zXZ\0", b"BZh"
_XZ_MEMORY_BYTES = 128 << 20
_READ_BYTES = 256 << 10


def is_archive(file: int) -> bool:
    """Whether an open file is such an archive: compressed or not, a tar begins in it. Blocks. Raises OSError."""
    try:
        with open_archive(file) as stream:
            head = b""
            while len(head) < tarfile.BLOCKSIZE and (data := stream.read(tarfile.BLOCKSIZE - len(head))):
                head += data
    except InvalidArgument:
        return False
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def open_archive(file: int) -> Iterator[LayerStream]:
    """The tar in an open file, bounded in what it may grow to. Blocks.

    Raises InvalidArgument when it is damaged or grows too much, FailedPrecondition without `zstd`, OSError.
    """
    head = os.pread(file, 6, 0)
    # A further descriptor, with a position of its own.
    path = Path(f"/proc/self/fd/{file}")
    if not head.startswith((_XZ, _BZIP2)):
        with open_layer(path) as stream:
            yield stream
        return
    with path.open("rb", buffering=0) as source:
        decompress = _xz if head.startswith(_XZ) else bz2.BZ2Decompressor
        yield LayerStream(_Members(source, decompress), limit_of(os.fstat(file).st_size))


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _New(Protocol):
    def __call__(self) -> _Decompressor: ...


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


class _Members:
    """Reads any number of streams one after another, never more at once than it is asked for."""

    def __init__(self, file: IO[bytes], new: _New) -> None:
        self._file = file
        self._new = new
        self._one = new()

    def read(self, size: int, /) -> bytes:
        try:
            return self._read(size)
        except (lzma.LZMAError, OSError, ValueError, EOFError) as error:
            raise InvalidArgument(f"an archive is damaged: {error}") from None

    def _read(self, size: int) -> bytes:
        while size > 0:
            if self._one.eof:
                rest = (self._one.unused_data or self._file.read(_READ_BYTES)).lstrip(b"\0")
                if not rest:
                    return b""
                self._one = self._new()
                data = self._one.decompress(rest, size)
            elif self._one.needs_input:
                feed = self._file.read(_READ_BYTES)
                if not feed:
                    raise InvalidArgument("an archive is damaged: it is cut off")
                data = self._one.decompress(feed, size)
            else:
                data = self._one.decompress(b"", size)
            if data:
                return data
        return b""
