"""Shared by the runtime tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.ids import SandboxId
from atolld.runtime.driver import LaunchSpec


@pytest.fixture
def spec() -> LaunchSpec:
    """A launch with a recognisable value in each field; nothing of it exists."""
    return LaunchSpec(
        id=SandboxId("i0123456789abcdefghi"),
        rootfs=Path("/state/rootfs"),
        netns=Path("/run/netns/t-1"),
        agent=Path("/cache/agent"),
        log=Path("/state/log/agent.log"),
        directory=Path("/state/driver"),
        cgroup="/t/i0123456789abcdefghi",
        resources=Resources(cpu=0.5, memory_mib=256, disk_mib=128, pids_max=100),
        hostname="box",
        env={"A": "1"},
    )
