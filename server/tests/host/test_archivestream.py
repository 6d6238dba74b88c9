from __future__ import annotations

import random
import zlib
from collections.abc import AsyncIterator

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.host.archivehead import Body
from atolld.host.archivestream import END, MAX_PIECE_BYTES, ArchiveReader, Inflater, deflated, measure

DATA = [b"one " * 1000, b"", b"two", random.Random(1).randbytes(3 << 20)]
WHOLE = b"".join(DATA)


async def cut(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def receive(stream: bytes, body: Body, step: int = 65536) -> bytes:
    reader = ArchiveReader(cut(stream, step))
    got = bytearray()
    inflater = Inflater(body, got.extend, "x")
    async for piece in reader.body():
        inflater.feed(piece)
    inflater.finish()
    await reader.end()
    return bytes(got)


def pieces(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("step", [977, 65536, 1 << 30])
async def test_a_body_comes_back_however_it_is_cut(step: int) -> None:
    assert await receive(b"".join(deflated(DATA)), measure(DATA), step) == WHOLE


async def test_an_empty_body() -> None:
    assert await receive(b"".join(deflated([])), measure([])) == b""


def test_pieces_are_bounded() -> None:
    assert max(map(len, deflated(DATA))) <= MAX_PIECE_BYTES + 4


GOOD = pieces(zlib.compress(b"hello"))
HELLO = measure([b"hello"])
BOMB = zlib.compress(bytes(1 << 24))


@pytest.mark.parametrize(
    ("stream", "body", "reason"),
    [
        (b"", HELLO, "cut off"),
        (GOOD, HELLO, "cut off"),
        (GOOD[:-1], HELLO, "cut off"),
        (GOOD + END[:3], HELLO, "cut off"),
        (pieces(zlib.compress(b"hello")[:-1]) + END, HELLO, "cut off"),
        (END, HELLO, "cut off"),
        (GOOD + END + b"x", HELLO, "follows its end"),
        (pieces(zlib.compress(b"hello") + b"x") + END, HELLO, "follows its end"),
        (GOOD + pieces(b"x") + END, HELLO, "follows its end"),
        ((MAX_PIECE_BYTES + 1).to_bytes(4, "big") + b"x", HELLO, "a piece"),
        (b"\xff\xff\xff\xff" + b"x", HELLO, "a piece"),
        (pieces(b"no zlib") + END, HELLO, "damaged"),
        (pieces(zlib.compress(b"hellO")) + END, HELLO, "SHA-256"),
        (pieces(zlib.compress(b"hell")) + END, HELLO, "4 bytes instead of 5"),
        (pieces(zlib.compress(b"hello!")) + END, HELLO, "more than 5"),
        (pieces(BOMB) + END, HELLO, "more than 5"),
    ],
)
async def test_what_is_refused(stream: bytes, body: Body, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        await receive(stream, body)


async def test_a_bomb_is_stopped_at_the_size_that_was_told() -> None:
    written: list[int] = []
    inflater = Inflater(Body(2 << 20, "0" * 64), lambda data: written.append(len(data)), "x")
    with pytest.raises(InvalidArgument, match="more than"):
        inflater.feed(BOMB)
    assert sum(written) <= 2 << 20


async def test_damage_anywhere_is_noticed() -> None:
    chance = random.Random(4)
    body, stream = measure([b"hello" * 99]), b"".join(deflated([b"hello" * 99]))
    for _ in range(500):
        bad = bytearray(stream)
        match chance.randrange(3):
            case 0:
                bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            case 1:
                del bad[chance.randrange(len(bad)) :]
            case _:
                at = chance.randrange(len(bad) + 1)
                bad[at:at] = chance.randbytes(chance.randrange(1, 9))
        try:
            got = await receive(bytes(bad), body)
        except InvalidArgument:
            continue
        assert got == b"hello" * 99
