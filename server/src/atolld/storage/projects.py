"""Projects in SQL."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from atolld.core.project import Project, ProjectLimits
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import ProjectId
from atolld.storage.database import Database
from atolld.storage.rows import project_from_row
from atolld.storage.schema import projects


class SqlProjects:
    """Implements `ProjectStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, project: Project, now: float) -> Project:
        """See `ProjectStore.ensure`."""

        def work(connection: Connection) -> Project:
            row = connection.execute(select(projects).where(projects.c.name == project.name)).first()
            if row is not None:
                return project_from_row(row)
            connection.execute(
                insert(projects).values(
                    id=project.id, name=project.name, created_at=now, **_limit_columns(project.limits)
                )
            )
            return project

        return await self._database.write(work)

    async def get(self, id: ProjectId) -> Project:
        """See `ProjectStore.get`."""
        row = await self._database.read(lambda c: c.execute(select(projects).where(projects.c.id == id)).first())
        if row is None:
            raise _unknown(id)
        return project_from_row(row)

    async def list(self) -> list[Project]:
        """See `ProjectStore.list`."""
        rows = await self._database.read(lambda c: c.execute(select(projects).order_by(projects.c.name)).all())
        return [project_from_row(row) for row in rows]

    async def set_limits(self, id: ProjectId, limits: ProjectLimits) -> Project:
        """See `ProjectStore.set_limits`."""

        def work(connection: Connection) -> Project:
            row = connection.execute(
                update(projects).where(projects.c.id == id).values(**_limit_columns(limits)).returning(*projects.c)
            ).first()
            if row is None:
                raise _unknown(id)
            return project_from_row(row)

        return await self._database.write(work)


def _limit_columns(limits: ProjectLimits) -> dict[str, float | int | None]:
    return {
        "max_sandboxes": limits.max_sandboxes,
        "max_cpu": limits.max_cpu,
        "max_memory_mib": limits.max_memory_mib,
        "max_snapshots": limits.max_snapshots,
        "max_saved_mib": limits.max_saved_mib,
    }


def _unknown(id: ProjectId) -> NotFound:
    return NotFound(f"there is no project {id}")
