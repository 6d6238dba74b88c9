"""Stream framing, however the bytes are cut."""

from __future__ import annotations

import json
import struct

import pytest

from atoll import Internal
from atoll._envelope import MAX_FRAME_BYTES, Decoder, encode


def frame(payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(payload)) + payload


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 1000])
def test_any_cut_gives_the_same_frames(cut: int) -> None:
    data = encode({"a": 1}) + encode({"b": "é" * 10}) + frame(b"{}", 2)
    decoder = Decoder()
    frames = [item for start in range(0, len(data), cut) for item in decoder.feed(data[start : start + cut])]
    assert [(item.message, item.is_end) for item in frames] == [({"a": 1}, False), ({"b": "é" * 10}, False), ({}, True)]
    assert decoder.is_empty


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">BI", 0, MAX_FRAME_BYTES + 1),
        frame(b"{}", 1),
        frame(b"[1]"),
        frame(b"{"),
        frame(b"\xff"),
        frame(b"[" * 100_000),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(Internal):
        list(Decoder().feed(data))


def test_frames_before_nonsense_are_delivered() -> None:
    decoder = Decoder()
    feed = decoder.feed(encode({"a": 1}) + frame(b"x"))
    assert next(feed).message == {"a": 1}
    with pytest.raises(Internal):
        next(feed)


def test_an_empty_end_frame_needs_no_json() -> None:
    assert [item.is_end for item in Decoder().feed(frame(b"", 2))] == [True]
    assert json.loads(encode({"x": None})[5:]) == {"x": None}
