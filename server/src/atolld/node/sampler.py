"""From counters to a sample: CPU use is the difference of two readings."""

from __future__ import annotations

from atolld.core.sandbox import Resources
from atolld.foundation.clock import Clock
from atolld.foundation.ids import SandboxId
from atolld.foundation.units import MIB
from atolld.node.interface import Usage
from atolld.node.machine import Consumption


class Sampler:
    """Remembers each sandbox's last CPU reading."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[SandboxId, tuple[float, int]] = {}

    def sample(self, id: SandboxId, resources: Resources, now: Consumption) -> Usage:
        """The sample that `now` completes; the first of a sandbox says 0 % CPU, as there is nothing to compare."""
        at = self._clock.monotonic()
        before = self._last.get(id)
        self._last[id] = (at, now.cpu_usec)
        cpu_pct = 0.0
        if before is not None and at > before[0]:
            cpu_pct = max(0.0, (now.cpu_usec - before[1]) / 1e6 / (at - before[0]) * 100)
        return Usage(
            at=self._clock.now(),
            cpu_count=resources.cpu,
            cpu_used_pct=round(cpu_pct, 2),
            memory_used_bytes=max(0, now.memory_bytes - now.memory_cache_bytes),
            memory_total_bytes=resources.memory_mib * MIB,
            memory_cache_bytes=now.memory_cache_bytes,
            disk_used_bytes=now.disk_used_bytes,
            disk_total_bytes=now.disk_total_bytes,
        )

    def forget(self, id: SandboxId) -> None:
        """Drop what is remembered of `id`."""
        self._last.pop(id, None)
