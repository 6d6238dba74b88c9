"""The Connect protocol's stream framing, without I/O: bytes in, messages out, however they were cut.

A frame is one flag byte, a 32-bit big-endian length, and that many bytes of JSON. Flag 2 marks the last frame, whose
JSON may hold an `error`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from atolld.foundation.errors import GuestUnreachable

# The agent puts at most 32 KiB of output into one message; a hostile one may announce anything.
MAX_FRAME_BYTES = 1 << 20

_FLAG_COMPRESSED = 1
_FLAG_END = 2
_HEADER = struct.Struct(">BI")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream; `is_end` marks the last."""

    message: dict[str, object]
    is_end: bool


def encode(message: object) -> bytes:
    """One message as a frame."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(0, len(payload)) + payload


class Decoder:
    """Cuts a byte stream into frames. Feed it any pieces; it keeps what is not whole yet, at most 1 MiB and a piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order. Raises GuestUnreachable when the bytes are no such stream."""
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= _HEADER.size:
                flags, length = _HEADER.unpack_from(self._buffer, position)
                if length > MAX_FRAME_BYTES:
                    raise GuestUnreachable(
                        f"the agent announces a message of {length} bytes; at most {MAX_FRAME_BYTES} are read"
                    )
                end = position + _HEADER.size + length
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[position + _HEADER.size : end])
                position = end
                yield _frame(flags, payload)
        finally:
            # Once for each piece, not once for each frame: deleting from the front moves everything behind it.
            del self._buffer[:position]


def _frame(flags: int, payload: bytes) -> Frame:
    if flags & _FLAG_COMPRESSED:
        raise GuestUnreachable("the agent's stream is compressed, which was not asked for")
    try:
        message = json.loads(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise GuestUnreachable("a message of the agent's stream is not JSON") from error
    if not isinstance(message, dict):
        raise GuestUnreachable("a message of the agent's stream is not a JSON object")
    return Frame(message, bool(flags & _FLAG_END))
