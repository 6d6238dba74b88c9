"""Warm pools: running sandboxes kept ready to be claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atolld.core.pool import Pool
from atolld.core.sandbox import Resources
from atolld.foundation.errors import Unimplemented
from atolld.foundation.ids import PoolId, ProjectId

_SOON = "warm pools are not there yet"


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as it stands.

    `warm`: ready to be claimed; `starting`: on their way. `claims` and `misses`: creates since the daemon's start that
    found one, and that did not and became ordinary creates. `message`: why it is not full, when it cannot be.
    """

    pool: Pool
    warm: int
    starting: int
    claims: int
    misses: int
    message: str | None = None


class Pools:
    """The pools of all projects."""

    async def set(
        self, project_id: ProjectId, template: str, runtime: str, resources: Resources, ready: int
    ) -> PoolStatus:
        """Keep `ready` sandboxes waiting from now on (0: none, the pool stays known). It fills in the background.

        Raises InvalidArgument, NotFound (template, runtime).
        """
        raise Unimplemented(_SOON)

    async def list(self, project_id: ProjectId) -> Sequence[PoolStatus]:
        """Oldest first."""
        raise Unimplemented(_SOON)

    async def get(self, project_id: ProjectId, id: PoolId) -> PoolStatus:
        """Raises NotFound."""
        raise Unimplemented(_SOON)

    async def delete(self, project_id: ProjectId, id: PoolId) -> None:
        """End what waits in it and forget it. Raises NotFound."""
        raise Unimplemented(_SOON)
