"""A bounded history of usage samples, kept small: eight numbers a sample, one hour at the usual cadence."""

from __future__ import annotations

from array import array

from atolld.node.interface import Usage

CADENCE_S = 5.0
HISTORY_S = 3600.0
CAPACITY = int(HISTORY_S / CADENCE_S)
_WIDTH = 8


class SampleRing:
    """The newest `capacity` samples of one sandbox; memory is taken as they come (64 bytes each)."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._numbers = array("d")
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers) // _WIDTH

    def add(self, sample: Usage) -> None:
        """Keep `sample`; the oldest one goes when there is no room."""
        row = array(
            "d",
            (
                sample.at,
                sample.cpu_count,
                sample.cpu_used_pct,
                sample.memory_used_bytes,
                sample.memory_total_bytes,
                sample.memory_cache_bytes,
                sample.disk_used_bytes,
                sample.disk_total_bytes,
            ),
        )
        if len(self) < self._capacity:
            self._numbers.extend(row)
            return
        start = self._next * _WIDTH
        self._numbers[start : start + _WIDTH] = row
        self._next = (self._next + 1) % self._capacity

    def between(self, start: float | None, end: float | None) -> list[Usage]:
        """Samples with `start` <= at <= `end` (Unix seconds; None: no bound), oldest first."""
        low = float("-inf") if start is None else start
        high = float("inf") if end is None else end
        found = []
        for index in range(len(self)):
            place = (self._next + index) % len(self) * _WIDTH
            if low <= self._numbers[place] <= high:
                found.append(_usage(self._numbers[place : place + _WIDTH]))
        return found


def _usage(row: array[float]) -> Usage:
    at, cpu_count, cpu_used_pct, *counts = row
    return Usage(at, cpu_count, cpu_used_pct, *(int(count) for count in counts))
