from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Capacity, InvalidArgument, NotFound, Unavailable
from atolld.images.blobs import MAX_TRIES, TRIES, WINDOW_S, Blobs
from atolld.images.locks import exclusive
from atolld.images.oci import Descriptor
from atolld.images.registry import Body

from .tars import digest

DATA = bytes(range(256)) * 10_000
WANTED = Descriptor("m", digest(DATA), len(DATA))


class EagerClock(ManualClock):
    """Never waits; time passes nonetheless."""

    async def sleep(self, seconds: float) -> None:
        self._now += seconds


class Server:
    """Serves DATA and breaks after the next of `breaks` bytes; `asked`: the offsets."""

    def __init__(self, *breaks: int, ranges: bool = True, data: bytes = DATA) -> None:
        self.breaks = list(breaks)
        self.ranges = ranges
        self.data = data
        self.asked: list[int] = []

    @asynccontextmanager
    async def __call__(self, offset: int) -> AsyncIterator[Body]:
        self.asked.append(offset)
        begin = offset if self.ranges else 0
        limit = self.breaks.pop(0) if self.breaks else None
        yield Body(begin, self._pieces(self.data[begin:], limit))

    async def _pieces(self, data: bytes, limit: int | None) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 10_000):
            if limit is not None and at >= limit:
                raise Unavailable("the connection broke")
            yield data[at : at + 10_000]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path, EagerClock(), reserve_bytes=0)


def left(blobs: Blobs) -> list[str]:
    return sorted(path.suffix or "whole" for path in blobs.directory.iterdir() if path.suffix != ".lock")


async def test_a_broken_connection_is_gone_on_from(blobs: Blobs) -> None:
    server = Server(1_000_000, 500_000)
    told: list[int] = []
    path = await blobs.fetch(WANTED, server, told.append)
    assert path.read_bytes() == DATA
    assert server.asked == [0, 1_000_000, 1_500_000]
    assert (told == sorted(told), told[-1]) == (True, len(DATA))
    # There is nothing left to ask for.
    assert await blobs.fetch(WANTED, server, told.append) == path
    assert len(server.asked) == 3


async def test_a_registry_that_vanishes_leaves_what_came(blobs: Blobs) -> None:
    server = Server(1_000_000, *[0] * 100)
    with pytest.raises(Unavailable, match="broke"):
        await blobs.fetch(WANTED, server, lambda _: None)
    assert (len(server.asked), left(blobs)) == (1 + TRIES, [".part"])
    again = Server()
    assert (await blobs.fetch(WANTED, again, lambda _: None)).read_bytes() == DATA
    assert again.asked == [1_000_000]


async def test_a_fetch_that_is_cancelled_leaves_what_came(blobs: Blobs) -> None:
    reached = asyncio.Event()

    class Hanging(Server):
        async def _pieces(self, data: bytes, limit: int | None) -> AsyncIterator[bytes]:
            yield data[:1_200_000]
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(blobs.fetch(WANTED, Hanging(), lambda _: None))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = Server()
    await blobs.fetch(WANTED, again, lambda _: None)
    assert again.asked == [1_200_000]


async def test_without_ranges_it_begins_anew(blobs: Blobs) -> None:
    server = Server(1_000_000, ranges=False)
    assert (await blobs.fetch(WANTED, server, lambda _: None)).read_bytes() == DATA


@pytest.mark.parametrize("data", [DATA[:-1] + b"!", DATA + b"!", b"!" + DATA[1:]])
async def test_other_bytes_than_promised_leave_nothing(blobs: Blobs, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        await blobs.fetch(WANTED, Server(data=data), lambda _: None)
    assert left(blobs) == []


async def test_bytes_that_lack_are_waited_for_so_often_only(blobs: Blobs) -> None:
    server = Server(data=DATA[:-1])
    with pytest.raises(Unavailable, match="nothing"):
        await blobs.fetch(WANTED, server, lambda _: None)
    assert len(server.asked) < TRIES + 3


async def test_a_trickle_is_given_up(tmp_path: Path) -> None:
    clock = EagerClock()
    blobs = Blobs(tmp_path, clock, reserve_bytes=0)
    pieces = 0

    class Trickle(Server):
        async def _pieces(self, data: bytes, limit: int | None) -> AsyncIterator[bytes]:
            nonlocal pieces
            for byte in data:
                pieces += 1
                await clock.sleep(WINDOW_S / 10)
                yield bytes([byte])

    server = Trickle()
    with pytest.raises(Unavailable, match="stalls"):
        await blobs.fetch(WANTED, server, lambda _: None)
    assert len(server.asked) <= MAX_TRIES
    assert pieces <= MAX_TRIES * 11


async def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, EagerClock(), reserve_bytes=1 << 62)
    with pytest.raises(Capacity, match="are free"):
        await blobs.fetch(WANTED, Server(), lambda _: None)
    assert left(blobs) == []


async def test_a_refusal_is_not_tried_again(blobs: Blobs) -> None:
    asked = 0

    @asynccontextmanager
    async def gone(offset: int) -> AsyncIterator[Body]:
        nonlocal asked
        asked += 1
        raise NotFound("no such blob")
        yield

    with pytest.raises(NotFound):
        await blobs.fetch(WANTED, gone, lambda _: None)
    assert asked == 1


async def test_what_another_fetches_is_not_forgotten(blobs: Blobs) -> None:
    with pytest.raises(Unavailable):
        await blobs.fetch(WANTED, Server(1_000_000, *[0] * 100), lambda _: None)
    async with exclusive(blobs.path(WANTED.digest).with_suffix(".lock")):
        blobs.remove(WANTED.digest)
        assert left(blobs) == [".part"]
    blobs.remove(WANTED.digest)
    assert left(blobs) == []


async def test_two_at_once_fetch_once(blobs: Blobs) -> None:
    server = Server()
    await asyncio.gather(*(blobs.fetch(WANTED, server, lambda _: None) for _ in range(3)))
    assert server.asked == [0]
    blobs.remove(WANTED.digest)
    assert left(blobs) == []
