"""The Connect protocol's stream framing, without I/O: bytes in, frames out, however they were cut.

A frame is one flag byte, a 32-bit big-endian length, and that many bytes. Flag 2 marks the last frame, whose JSON
may hold an `error`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from atoll._errors import Internal

FLAG_COMPRESSED = 1
FLAG_END = 2
HEADER_BYTES = 5

# The other side runs in a sandbox and may send anything: without a bound, one length field could ask for 4 GiB.
MAX_FRAME_BYTES = 16 * 1024 * 1024

_HEADER = struct.Struct(">BI")


class StreamBroken(Exception):
    """A stream ended without its last frame: the connection broke, or something between closed it."""


@dataclass(frozen=True)
class Frame:
    """One message of a stream; `is_end` marks the last."""

    message: dict[str, object]
    is_end: bool


def encode(message: object) -> bytes:
    """One JSON message as a frame."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(0, len(payload)) + payload


class Decoder:
    """Cuts a byte stream into frames. Feed it any pieces; it keeps what is not whole yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of an unfinished frame is held."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order. Raises Internal when the bytes are no such stream."""
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= HEADER_BYTES:
                flags, length = _HEADER.unpack_from(self._buffer, position)
                if length > MAX_FRAME_BYTES:
                    raise Internal(
                        f"the stream announces a frame of {length} bytes; at most {MAX_FRAME_BYTES} are read"
                    )
                end = position + HEADER_BYTES + length
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[position + HEADER_BYTES : end])
                position = end
                yield _frame(flags, payload)
        finally:
            # Once for each piece, not once for each frame: deleting from the front moves everything behind it.
            del self._buffer[:position]


def _frame(flags: int, payload: bytes) -> Frame:
    if flags & FLAG_COMPRESSED:
        raise Internal("the stream is compressed, which was not asked for")
    try:
        message = json.loads(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise Internal("a frame of the stream is not JSON") from error
    if not isinstance(message, dict):
        raise Internal("a frame of the stream is not a JSON object")
    return Frame(message, bool(flags & FLAG_END))
