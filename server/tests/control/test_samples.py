from __future__ import annotations

import pytest

from atolld.control.samples import CAPACITY, SampleRing
from atolld.node.interface import Usage


def _usage(at: float) -> Usage:
    return Usage(at, 0.5, 12.5, 2**40, 2**41, 3, 4, 5)


def test_an_hour_at_the_cadence() -> None:
    assert CAPACITY == 720


def test_samples_come_back_as_they_were() -> None:
    ring = SampleRing()
    ring.add(_usage(1.5))
    assert ring.between(None, None) == [_usage(1.5)]
    assert isinstance(ring.between(None, None)[0].memory_used_bytes, int)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 9, 10, 11, 23])
def test_the_newest_are_kept_in_order(count: int) -> None:
    ring = SampleRing(5)
    for n in range(count):
        ring.add(_usage(float(n)))
    assert [sample.at for sample in ring.between(None, None)] == [float(n) for n in range(count)][-5:]
    assert len(ring) == min(count, 5)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (None, None, [3, 4, 5, 6, 7]),
        (4.0, None, [4, 5, 6, 7]),
        (None, 4.0, [3, 4]),
        (4.5, 5.5, [5]),
        (8.0, None, []),
        (6.0, 5.0, []),
    ],
)
def test_bounds(start: float | None, end: float | None, found: list[float]) -> None:
    ring = SampleRing(5)
    for n in range(8):
        ring.add(_usage(float(n)))
    assert [sample.at for sample in ring.between(start, end)] == found
