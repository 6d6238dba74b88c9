"""Whether a project may hold one more sandbox, checked in the transaction that adds it."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from atolld.core.lifecycle import LIVE_STATES
from atolld.core.sandbox import Resources
from atolld.foundation.errors import LimitExceeded, NotFound
from atolld.foundation.ids import ProjectId
from atolld.storage.schema import projects, sandboxes

_LIVE = [state.value for state in LIVE_STATES]


def admit(connection: Connection, project_id: ProjectId, wanted: Resources) -> None:
    """Raises LimitExceeded when `wanted` would pass a limit of the project, NotFound when there is no such project.

    What counts is every sandbox that has not ended: one that is being stopped still holds its resources. The project's
    row is locked, so that two callers at once cannot both take the last place.
    """
    limits = connection.execute(
        select(projects.c.max_sandboxes, projects.c.max_cpu, projects.c.max_memory_mib)
        .where(projects.c.id == project_id)
        .with_for_update()
    ).first()
    if limits is None:
        raise NotFound(f"there is no project {project_id}")
    if limits.max_sandboxes is None and limits.max_cpu is None and limits.max_memory_mib is None:
        return
    held = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(sandboxes.c.cpu), 0.0),
            func.coalesce(func.sum(sandboxes.c.memory_mib), 0),
        ).where(sandboxes.c.project_id == project_id, sandboxes.c.state.in_(_LIVE))
    ).one()
    for name, limit, taken, more in (
        ("sandboxes at once", limits.max_sandboxes, held[0], 1),
        ("CPUs", limits.max_cpu, held[1], wanted.cpu),
        ("MiB of memory", limits.max_memory_mib, held[2], wanted.memory_mib),
    ):
        # A hair of room for sums of fractions such as ten times 0.1.
        if limit is not None and taken + more > limit + 1e-9:
            raise LimitExceeded(
                f"the project may hold {limit:g} {name}; it holds {taken:g} and {more:g} more were asked for. "
                "End some sandboxes or raise the limit.",
                limit=limit,
                taken=taken,
                wanted=more,
            )
