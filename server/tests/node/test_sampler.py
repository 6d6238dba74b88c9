from __future__ import annotations

from atolld.core.sandbox import Resources
from atolld.foundation.clock import ManualClock
from atolld.foundation.ids import SandboxId
from atolld.foundation.units import MIB
from atolld.node.machine import Consumption
from atolld.node.sampler import Sampler

ID = SandboxId("i0000000000000000001")


async def test_cpu_is_the_difference_of_two_readings() -> None:
    clock = ManualClock(1000.0)
    sampler = Sampler(clock)
    resources = Resources(cpu=2, memory_mib=256)

    def reading(cpu_usec: int) -> Consumption:
        return Consumption(cpu_usec, 50 * MIB, 10 * MIB, 5, 6, 0)

    first = sampler.sample(ID, resources, reading(1_000_000))
    assert (first.cpu_used_pct, first.memory_used_bytes, first.memory_total_bytes) == (0.0, 40 * MIB, 256 * MIB)
    await clock.advance(5)
    assert sampler.sample(ID, resources, reading(8_500_000)).cpu_used_pct == 150.0
    await clock.advance(5)
    # A counter that went back (the group was made anew) is no negative use.
    assert sampler.sample(ID, resources, reading(0)).cpu_used_pct == 0.0
    sampler.forget(ID)
    await clock.advance(5)
    assert sampler.sample(ID, resources, reading(9_000_000)).cpu_used_pct == 0.0
