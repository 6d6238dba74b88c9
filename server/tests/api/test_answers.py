from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from atolld.api.answers import lines_of, with_first
from atolld.foundation.errors import Unavailable
from atolld.foundation.ids import RequestId

ID = RequestId("r1")


class View(BaseModel):
    """A line."""

    number: int
    text: str | None = None


class Source:
    """Gives numbers, then raises; `closed` once nobody wants more."""

    def __init__(self, count: int, fault: Exception | None = None) -> None:
        self.count, self.fault = count, fault
        self.closed = False

    async def items(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                yield number
            if self.fault is not None:
                raise self.fault
        finally:
            self.closed = True


def view(number: int) -> View:
    return View(number=number, text="é" if number == 1 else None)


async def told(source: Source) -> list[dict[str, object]]:
    return [json.loads(line) async for line in lines_of(source.items(), view, ID)]


async def test_a_line_for_each() -> None:
    source = Source(3)
    assert await told(source) == [{"number": 0}, {"number": 1, "text": "é"}, {"number": 2}]
    assert source.closed


@pytest.mark.parametrize("count", [0, 2])
async def test_what_fails_is_the_last_line(count: int) -> None:
    source = Source(count, Unavailable("it stalls"))
    got = await told(source)
    assert len(got) == count + 1
    assert got[-1]["error"] == {"code": "unavailable", "message": "it stalls", "request_id": "r1"}
    assert source.closed


async def test_what_nobody_expected_is_told_without_its_words_and_raised() -> None:
    lines: list[bytes] = []
    source = Source(1, ZeroDivisionError("a secret"))
    with pytest.raises(ZeroDivisionError):
        async for line in lines_of(source.items(), view, ID):
            lines.append(line)
    assert json.loads(lines[-1])["error"]["code"] == "internal"
    assert b"secret" not in lines[-1] and source.closed


async def test_who_stops_to_listen_ends_it() -> None:
    source = Source(5)
    items = source.items()
    lines = lines_of(with_first(await anext(items), items), view, ID)
    assert [json.loads(await anext(lines))["number"] for _ in range(3)] == [0, 1, 2]
    assert not source.closed
    await lines.aclose()  # type: ignore[attr-defined]
    assert source.closed


async def test_the_first_and_the_rest() -> None:
    source = Source(3)
    items = source.items()
    assert [one async for one in with_first(await anext(items), items)] == [0, 1, 2]
    assert source.closed
