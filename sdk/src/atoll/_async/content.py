"""What can be written to a file, as the body of a request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import IO, cast

from atoll import _aio as backend
from atoll._errors import InvalidArgument

Content = str | bytes | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]

# Big enough that a piece's cost is its bytes, small enough that memory stays flat.
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class AsyncBody:
    """A request's body; `size` in bytes, None when it is not known before the end."""

    data: bytes | AsyncIterator[bytes]
    size: int | None

    def headers(self) -> dict[str, str]:
        """Headers that belong to it. A known size spares the chunked coding and lets the agent check it."""
        headers = {"content-type": "application/octet-stream"}
        if self.size is not None:
            headers["content-length"] = str(self.size)
        return headers


async def prepare(data: Content, on_progress: Callable[[int], None] | None = None) -> AsyncBody:
    """The body for this content. `on_progress` is called with the bytes handed over so far.

    Raises InvalidArgument when a file is open for text.
    """
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return AsyncBody(bytes(data), len(data))
    if hasattr(data, "read"):
        file = cast("IO[bytes]", data)
        size = await backend.run_blocking(_remaining_bytes, file)
        return AsyncBody(_file_pieces(file, size, on_progress), size)
    return AsyncBody(backend.iterate(data), None)


async def _file_pieces(
    file: IO[bytes], size: int | None, on_progress: Callable[[int], None] | None
) -> AsyncIterator[bytes]:
    sent = 0
    while size is None or sent < size:
        # Never more than was announced, even if the file grows meanwhile.
        wanted = PIECE_BYTES if size is None else min(PIECE_BYTES, size - sent)
        piece = await backend.run_blocking(file.read, wanted)
        if isinstance(piece, str):
            raise InvalidArgument("the file is open for text; open it in binary mode ('rb')")
        if not piece:
            if size is not None:
                raise InvalidArgument(f"the file became shorter while it was sent: {sent} of {size} bytes")
            return
        sent += len(piece)
        yield piece
        if on_progress is not None:
            on_progress(sent)


def _remaining_bytes(file: IO[bytes]) -> int | None:
    try:
        if not file.seekable():
            return None
        position = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (OSError, AttributeError):
        return None
    return max(0, end - position)
