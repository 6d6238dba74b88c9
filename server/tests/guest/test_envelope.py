from __future__ import annotations

import struct

import pytest

from atolld.foundation.errors import GuestUnreachable
from atolld.guest.envelope import MAX_FRAME_BYTES, Decoder, Frame, encode


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
def test_frames_come_whole_however_they_were_cut(size: int) -> None:
    text = encode({"a": 1}) + encode({}) + b"\x02" + encode({"error": None})[1:]
    decoder = Decoder()
    found = [frame for at in range(0, len(text), size) for frame in decoder.feed(text[at : at + size])]
    assert found == [Frame({"a": 1}, False), Frame({}, False), Frame({"error": None}, True)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (struct.pack(">BI", 0, MAX_FRAME_BYTES + 1), "announces"),
        (struct.pack(">BI", 0, 0xFFFFFFFF), "announces"),
        (struct.pack(">BI", 1, 2) + b"{}", "compressed"),
        (struct.pack(">BI", 0, 3) + b"{]}", "not JSON"),
        (struct.pack(">BI", 0, 2) + b"[]", "not a JSON object"),
        (struct.pack(">BI", 0, 60_000) + b"[" * 60_000, "not JSON"),
    ],
)
def test_nonsense_is_an_error(data: bytes, says: str) -> None:
    with pytest.raises(GuestUnreachable, match=says):
        list(Decoder().feed(data))


def test_an_empty_frame_is_an_empty_message() -> None:
    assert list(Decoder().feed(struct.pack(">BI", 2, 0))) == [Frame({}, True)]
