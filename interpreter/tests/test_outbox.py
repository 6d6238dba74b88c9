"""Outputs on their way to a client."""

from __future__ import annotations

import asyncio
import json
import math

from atoll_interpreter import outbox as module
from atoll_interpreter.outbox import Outbox


async def test_lines_come_in_order_and_then_the_end() -> None:
    box = Outbox()
    box.put({"n": 1})
    box.put({"n": 2})
    box.close()
    box.put({"n": 3})
    assert await box.take(1) == b'{"n": 1}\n{"n": 2}\n'
    assert await box.take(1) is None


async def test_silence_is_told() -> None:
    assert await Outbox().take(0.001) == b""


async def test_it_is_full_until_enough_was_taken() -> None:
    box = Outbox()
    line = {"text": "x" * 1024 * 1024}
    while not box.full:
        box.put(line)
    room = asyncio.ensure_future(box.room())  # noqa: TID251
    taken = 0
    while not room.done():
        taken += len(await box.take(1) or b"")
        await asyncio.sleep(0)
    assert module.FULL_BYTES - module.RESUME_BYTES <= taken <= module.FULL_BYTES + 2 * 1024 * 1024
    assert not box.full


async def test_nothing_is_kept_for_who_has_gone() -> None:
    box = Outbox()
    box.put({"text": "x" * (module.FULL_BYTES + 1)})
    assert box.full
    box.abandon()
    box.put({"text": "x"})
    assert box.abandoned
    assert not box.full
    await box.room()
    await box.until_abandoned()


async def test_who_goes_after_the_end_has_not_gone_before_it() -> None:
    box = Outbox()
    box.close()
    box.abandon()
    assert not box.abandoned


async def test_numbers_that_json_does_not_know_are_null() -> None:
    box = Outbox()
    box.put({"data": {"a": [1.5, math.nan, math.inf]}, "text": "\ud800"})
    line = await box.take(1)
    assert line is not None
    assert json.loads(line) == {"data": {"a": [1.5, None, None]}, "text": "?"}
