from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atolld.control.expiry import Expiry
from atolld.foundation.clock import ManualClock
from atolld.foundation.ids import SandboxId

A, B, C = SandboxId("a"), SandboxId("b"), SandboxId("c")


class Recorder:
    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.fired: list[tuple[str, float]] = []
        self.expiry = Expiry(self.clock, lambda id: self.fired.append((id, self.clock.now())))


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    made = Recorder()
    made.expiry.start()
    yield made
    await made.expiry.stop()


async def test_in_order_and_at_their_time(recorder: Recorder) -> None:
    for id, at in ((C, 1030.0), (A, 1010.0), (B, 1020.5)):
        recorder.expiry.schedule(id, at)
    await recorder.clock.advance(60)
    assert recorder.fired == [(A, 1010.0), (B, 1020.5), (C, 1030.0)]
    assert len(recorder.expiry) == 0


async def test_an_earlier_time_wakes_the_sleeper(recorder: Recorder) -> None:
    recorder.expiry.schedule(A, 5000.0)
    await recorder.clock.advance(0)
    recorder.expiry.schedule(A, 1000.25)
    await recorder.clock.advance(0.25)
    assert recorder.fired == [(A, 1000.25)]
    await recorder.clock.advance(5000)
    assert len(recorder.fired) == 1


@pytest.mark.parametrize(
    ("times", "fired"),
    [
        ([1010.0, 1020.0], [1020.0]),
        ([1020.0, 1010.0], [1010.0]),
        ([1010.0, None], []),
        ([1010.0, None, 1015.0], [1015.0]),
        ([1010.0, 1010.0], [1010.0]),
        ([1020.0, 1010.0, 1020.0], [1020.0]),
        ([None], []),
        ([900.0], [1000.0]),
    ],
)
async def test_the_last_word_counts(recorder: Recorder, times: list[float | None], fired: list[float]) -> None:
    for at in times:
        recorder.expiry.schedule(A, at)
    await recorder.clock.advance(100)
    assert [at for _, at in recorder.fired] == fired


async def test_cancelled(recorder: Recorder) -> None:
    recorder.expiry.schedule(A, 1010.0)
    recorder.expiry.cancel(A)
    recorder.expiry.cancel(B)
    await recorder.clock.advance(100)
    assert recorder.fired == []


async def test_one_that_renews_for_ever_does_not_fill_memory(recorder: Recorder) -> None:
    for n in range(10_000):
        recorder.expiry.schedule(A, 2000.0 + n)
    assert len(recorder.expiry._heap) <= 67
    await recorder.clock.advance(12_000)
    assert recorder.fired == [(A, 11_999.0)]


async def test_nothing_scheduled_wakes_nothing(recorder: Recorder) -> None:
    recorder.expiry.schedule(A, 9000.0)
    await recorder.clock.advance(5)
    recorder.expiry.cancel(A)
    await recorder.clock.advance(5)
    assert all(future.done() for _, _, future in recorder.clock._sleepers)
