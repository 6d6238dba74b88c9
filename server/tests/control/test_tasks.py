from __future__ import annotations

import asyncio
import logging

import pytest

from atolld.control.tasks import uninterrupted, until_done
from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock


async def test_uninterrupted_ends_although_its_caller_is_cancelled() -> None:
    done: list[str] = []
    go_on = asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        done.append("work")
        return "result"

    caller = spawn(uninterrupted(work(), name="work"), name="caller")
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == ["work"]
    assert await uninterrupted(work(), name="work") == "result"


async def test_until_done_waits_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(0.0)
    tries: list[float] = []

    async def attempt() -> None:
        tries.append(clock.now())
        if len(tries) < 9:
            raise OSError("busy")

    with caplog.at_level(logging.ERROR):
        task = spawn(until_done(clock, "unmounting", attempt), name="again")
        await clock.advance(1000)
    assert task.done()
    assert tries == [1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert "unmounting failed again, next try in 60 s" in caplog.text
