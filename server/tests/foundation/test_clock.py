from __future__ import annotations

import asyncio
import time

import pytest

from atolld.foundation.aio import spawn
from atolld.foundation.clock import ManualClock, SystemClock, rfc3339


async def test_manual_clock_wakes_sleepers_in_order_at_their_time() -> None:
    clock = ManualClock(100.0)
    woke: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woke.append((name, clock.now()))

    for name, seconds in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("late", 10.0)):
        spawn(sleeper(name, seconds), name=name)
    await clock.advance(3.0)
    assert woke == [("a", 101.0), ("b", 102.0), ("c", 103.0)]
    assert clock.now() == clock.monotonic() == 103.0
    await clock.advance(7.0)
    assert woke[-1] == ("late", 110.0)


async def test_manual_clock_wakes_a_sleeper_that_slept_again_on_the_way() -> None:
    clock = ManualClock(0.0)
    ticks: list[float] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(1.0)
            ticks.append(clock.now())

    task = spawn(ticker(), name="ticker")
    await clock.advance(3.5)
    assert ticks == [1.0, 2.0, 3.0]
    task.cancel()
    await asyncio.wait({task})
    await clock.advance(5.0)
    assert len(ticks) == 3


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_sleeping_no_time_returns(seconds: float) -> None:
    await ManualClock().sleep(seconds)
    await SystemClock().sleep(seconds)


def test_system_clock() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 1
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.1234, "2023-11-14T22:13:20.123Z"),
        (1_700_000_000.9996, "2023-11-14T22:13:20.999Z"),
    ],
)
def test_rfc3339(unix_s: float, text: str) -> None:
    assert rfc3339(unix_s) == text
