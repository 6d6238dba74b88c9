"""What the host allows a gVisor sandbox, at its start and afterwards."""

from __future__ import annotations

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.units import MIB
from atolld.runtime.drivers.gvisor import limits


@pytest.mark.parametrize(("cpu", "boot_cpu"), [(0.1, 2.0), (1.0, 2.0), (2.0, 2.0), (3.5, 3.5)])
def test_start_is_generous_with_cpu_only(cpu: float, boot_cpu: float) -> None:
    resources = Resources(cpu=cpu, memory_mib=256, pids_max=100)
    boot, running = limits.boot(resources), limits.running(resources)
    assert (boot.cpu, running.cpu) == (boot_cpu, cpu)
    assert boot.memory_bytes == 256 * MIB, "the guest would see our overhead as its own"
    assert running.memory_bytes == (256 + limits.MEMORY_MIB) * MIB


def test_guest_limit_is_met_before_the_host_limit() -> None:
    for pids_max in (16, 1024, 100_000):
        allowed = limits.running(Resources(pids_max=pids_max)).pids_max
        assert allowed >= 2.05 * pids_max + 100
