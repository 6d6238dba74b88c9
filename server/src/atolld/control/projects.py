"""Projects and their limits."""

from __future__ import annotations

from atolld.core.project import Project, ProjectLimits
from atolld.foundation.clock import Clock
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import ProjectId, new_project_id
from atolld.storage.store import ProjectStore

DEFAULT_PROJECT = "default"


class Projects:
    """The tenants of this daemon."""

    def __init__(self, store: ProjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ensure_default(self) -> Project:
        """The project `default`, made without limits when it is not there yet."""
        return await self._store.ensure(Project(new_project_id(), DEFAULT_PROJECT), self._clock.now())

    async def get(self, project_id: ProjectId) -> Project:
        """Raises NotFound."""
        return await self._store.get(project_id)

    async def list(self) -> list[Project]:
        """All, by name."""
        return await self._store.list()

    async def set_limits(self, project_id: ProjectId, limits: ProjectLimits) -> Project:
        """Set what the project may hold at once; a sandbox that already runs is never ended by a lower limit.

        Raises NotFound, InvalidArgument when a limit is negative or not a number.
        """
        for name, value in (
            ("max_sandboxes", limits.max_sandboxes),
            ("max_cpu", limits.max_cpu),
            ("max_memory_mib", limits.max_memory_mib),
            ("max_snapshots", limits.max_snapshots),
            ("max_saved_mib", limits.max_saved_mib),
        ):
            # Written so that NaN fails too; the upper bound is what every database can store.
            if value is not None and not 0 <= value < 2**31:
                raise InvalidArgument(f"{name} is {value:g}; it must be between 0 and {2**31 - 1}, or none at all")
        return await self._store.set_limits(project_id, limits)
