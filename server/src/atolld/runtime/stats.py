"""A sandbox's use of resources, from its cgroup."""

from __future__ import annotations

from atolld.foundation.errors import NotFound
from atolld.foundation.ids import SandboxId
from atolld.host.cgroups import Cgroups
from atolld.runtime.driver import TaskStats


def read_stats(cgroups: Cgroups, id: SandboxId) -> TaskStats:
    """Raises NotFound when the cgroup is gone."""
    try:
        now = cgroups.stats(id)
    except FileNotFoundError:
        raise NotFound(f"sandbox {id} is gone") from None
    return TaskStats(now.cpu_usec, now.memory_bytes, now.memory_peak_bytes, now.tasks)
