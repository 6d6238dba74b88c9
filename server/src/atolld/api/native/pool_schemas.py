"""What goes over the wire about warm pools."""

from __future__ import annotations

from pydantic import BaseModel, Field

from atolld.api.native.schemas import Strict, Wanted
from atolld.control.pools import PoolStatus
from atolld.core.pool import MAX_READY
from atolld.foundation.clock import rfc3339


class SetPool(Wanted):
    """A pool to be kept from now on. There is one for each template, runtime and set of bounds."""

    template: str = Field(description="What its sandboxes start from: a template, or a snapshot by its name or id.")
    ready: Strict = Field(ge=0, le=MAX_READY, description="How many to keep waiting; 0 keeps none.")


class PoolView(BaseModel):
    """A pool. `warm` are ready to be claimed, `starting` on their way.

    `claims` and `misses`: creates since the daemon's start that found one, and that did not and were ordinary ones.
    `message`: why it is not full, null while nothing keeps it from being so.
    """

    id: str
    template: str
    runtime: str
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    ready: int
    warm: int
    starting: int
    claims: int
    misses: int
    message: str | None
    created_at: str

    @staticmethod
    def of(status: PoolStatus) -> PoolView:
        """The view of `status`."""
        pool, bounds = status.pool, status.pool.resources
        return PoolView(
            id=pool.id,
            template=pool.template,
            runtime=pool.runtime,
            cpu=bounds.cpu,
            memory_mib=bounds.memory_mib,
            disk_mib=bounds.disk_mib,
            pids_max=bounds.pids_max,
            ready=pool.ready,
            warm=status.warm,
            starting=status.starting,
            claims=status.claims,
            misses=status.misses,
            message=status.message,
            created_at=rfc3339(pool.created_at),
        )
