"""Warm pools: sandboxes that run already and wait to be claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from atolld.core.sandbox import Resources
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import PoolId, ProjectId

MAX_READY = 1000


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of a project: `ready` sandboxes of `template` with `runtime` and `resources` are kept waiting.

    A project has one pool for each template (or snapshot), runtime and set of resources. `created_at`: Unix seconds.
    """

    id: PoolId
    project_id: ProjectId
    template: str
    runtime: str
    resources: Resources
    ready: int
    created_at: float

    def check(self) -> None:
        """Raises InvalidArgument when a value is out of its range."""
        self.resources.check()
        if not 0 <= self.ready <= MAX_READY:
            raise InvalidArgument(f"ready is {self.ready}; it must be between 0 and {MAX_READY}")

    def fits(self, runtime: str, asked: Resources) -> bool:
        """Whether one that waits here can become what is asked for, if it is of the same template.

        Only its CPU may differ, and only so far that the guest, which was told at its start how many CPUs it has, was
        told the truth: gVisor shows the quota rounded up, at least two.
        """
        same = replace(asked, cpu=self.resources.cpu) == self.resources
        cpus_shown = (max(2, math.ceil(cpu)) for cpu in (self.resources.cpu, asked.cpu))
        return same and len(set(cpus_shown)) == 1 and runtime == self.runtime
