"""The bodies of an archive: written and read piece by piece, so that gigabytes take constant memory.

A body is a zlib stream cut into pieces: 4 bytes of length (big-endian, 1 to 1 MiB) and that many bytes each; a length
of 0 ends it. Its size and SHA-256 once inflated are in the signed manifest. Nothing follows the last body.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator

from atolld.foundation.errors import InvalidArgument
from atolld.host.archivehead import Body

MAX_PIECE_BYTES = 1 << 20
END = b"\0\0\0\0"
# The fastest: an archive is made while somebody waits, and mostly of memory and programs, where more gains little.
_LEVEL = 1


def deflated(source: Iterable[bytes]) -> Iterator[bytes]:
    """`source` as a body, its end included."""
    packer = zlib.compressobj(_LEVEL)
    for data in source:
        yield from _pieces(packer.compress(data))
    yield from _pieces(packer.flush())
    yield END


def measure(source: Iterable[bytes]) -> Body:
    """Size and SHA-256 of what `source` gives. Blocks."""
    digest = hashlib.sha256()
    size = 0
    for data in source:
        digest.update(data)
        size += len(data)
    return Body(size, digest.hexdigest())


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), MAX_PIECE_BYTES):
        piece = data[start : start + MAX_PIECE_BYTES]
        yield len(piece).to_bytes(4, "big") + piece


class ArchiveReader:
    """Reads exact amounts from a stream of any pieces. All raise InvalidArgument where the stream ends early."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes; the caller has bounded `count`."""
        while len(self._buffer) < count:
            piece = await anext(self._stream, None)
            if piece is None:
                raise InvalidArgument("the archive is cut off: it ends in the middle")
            self._buffer += piece
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The next body's pieces, still deflated; to be read to its end."""
        while length := int.from_bytes(await self.exactly(4), "big"):
            if length > MAX_PIECE_BYTES:
                raise InvalidArgument(f"the archive is damaged: a piece would have {length} bytes")
            yield await self.exactly(length)

    async def end(self) -> None:
        """Raises InvalidArgument when anything follows."""
        while not self._buffer:
            piece = await anext(self._stream, None)
            if piece is None:
                return
            self._buffer += piece
        raise InvalidArgument("the archive is damaged: something follows its end")


class Inflater:
    """Inflates one body into `write`, never beyond the size it must have, and compares its SHA-256 at the end."""

    def __init__(self, body: Body, write: Callable[[bytes], object], what: str) -> None:
        self._body = body
        self._write = write
        self._what = what
        self._unpacker = zlib.decompressobj()
        self._digest = hashlib.sha256()
        self._size = 0

    def feed(self, piece: bytes) -> None:
        """One piece. Blocks. Raises InvalidArgument, and what `write` raises."""
        while piece:
            try:
                data = self._unpacker.decompress(piece, MAX_PIECE_BYTES)
            except zlib.error as error:
                raise self._damaged(str(error)) from None
            if self._unpacker.unused_data or (self._unpacker.eof and self._unpacker.unconsumed_tail):
                raise self._damaged("something follows its end")
            piece = self._unpacker.unconsumed_tail
            self._take(data)

    def finish(self) -> None:
        """All pieces were fed. Raises InvalidArgument when it is not what the manifest says."""
        if not self._unpacker.eof:
            raise self._damaged("it is cut off")
        if self._size != self._body.size_bytes:
            raise self._damaged(f"it has {self._size} bytes instead of {self._body.size_bytes}")
        if self._digest.hexdigest() != self._body.sha256:
            raise self._damaged("its SHA-256 is not that of the manifest")

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._body.size_bytes:
            raise self._damaged(f"it has more than {self._body.size_bytes} bytes")
        self._digest.update(data)
        self._write(data)

    def _damaged(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"the archive is damaged: {self._what}: {why}")
