"""Whether a project may hold one more sandbox, save or version, checked in the transaction that adds it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, bindparam, cast, func, select

from atolld.core.build import BuildState
from atolld.core.lifecycle import HOLDING_STATES
from atolld.core.sandbox import Resources
from atolld.core.snapshot import SnapshotRole, SnapshotState
from atolld.foundation.errors import LimitExceeded, NotFound
from atolld.foundation.ids import ProjectId
from atolld.storage.schema import projects, sandboxes, snapshots, template_builds

MIB = 1024 * 1024
_HOLDING = sorted(state.value for state in HOLDING_STATES)
# One that is being deleted does not count against the number, only its bytes do.
_KEPT = (SnapshotState.CREATING.value, SnapshotState.READY.value)
# Built once: building a statement costs as much as running it.
_PROJECT = select(projects).where(projects.c.id == bindparam("id")).with_for_update()
_BUILT = (BuildState.BUILDING.value, BuildState.READY.value)


def admit(connection: Connection, project_id: ProjectId, wanted: Resources) -> None:
    """Raises LimitExceeded when `wanted` would pass a limit of the project, NotFound when there is no such project.

    What counts is every sandbox that has not ended and is not paused: one that is being stopped still holds its
    resources. The project's row is locked, so that two callers at once cannot both take the last place.
    """
    limits = _limits(connection, project_id)
    if limits.max_sandboxes is None and limits.max_cpu is None and limits.max_memory_mib is None:
        return
    held = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(sandboxes.c.cpu), 0.0),
            func.coalesce(func.sum(sandboxes.c.memory_mib), 0),
        ).where(sandboxes.c.project_id == project_id, sandboxes.c.state.in_(_HOLDING))
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
                "End or pause some sandboxes or raise the limit.",
                limit=limit,
                taken=taken,
                wanted=more,
            )


def admit_save(connection: Connection, project_id: ProjectId, role: SnapshotRole) -> None:
    """Raises LimitExceeded when the project may not keep one more save, NotFound when there is no such project.

    How large a save will be is not known before it is written, so the last one may pass the limit of bytes.
    """
    limits = _limits(connection, project_id)
    if limits.max_snapshots is not None and role is SnapshotRole.SNAPSHOT:
        mine = (snapshots.c.project_id == project_id) & (snapshots.c.role == SnapshotRole.SNAPSHOT.value)
        taken = connection.execute(select(func.count()).where(mine, snapshots.c.state.in_(_KEPT))).scalar_one()
        if taken >= limits.max_snapshots:
            raise LimitExceeded(
                f"the project may keep {limits.max_snapshots} snapshots; it has {taken}. "
                "Delete some or raise the limit.",
                limit=limits.max_snapshots,
                taken=taken,
                wanted=1,
            )
    if limits.max_saved_mib is not None:
        taken = saved_bytes(connection, project_id)
        if taken >= limits.max_saved_mib * MIB:
            raise LimitExceeded(
                f"the project's snapshots and paused sandboxes may take {limits.max_saved_mib} MiB on disk; they take "
                f"{taken / MIB:.0f}. Delete snapshots, end paused sandboxes or raise the limit.",
                limit=limits.max_saved_mib,
                taken=taken // MIB,
            )


def admit_build(connection: Connection, project_id: ProjectId, max_versions: int | None) -> None:
    """Raises LimitExceeded when the project has `max_versions` builds that are ready or going on already, those that
    are deleted and that something still needs included; NotFound when there is no such project, whose row is locked."""
    _limits(connection, project_id)
    if max_versions is None:
        return
    mine = (template_builds.c.project_id == project_id) & template_builds.c.state.in_(_BUILT)
    taken = connection.execute(select(func.count()).select_from(template_builds).where(mine)).scalar_one()
    if taken >= max_versions:
        raise LimitExceeded(
            f"the project may have {max_versions} versions of templates; it has {taken}, those of images in code "
            "included. Delete templates or versions, or raise the setting max_versions.",
            limit=max_versions,
            taken=taken,
            wanted=1,
        )


def saved_bytes(connection: Connection, project_id: ProjectId) -> int:
    """Bytes on disk of all the project's saves; those being deleted count until they are gone."""
    size: ColumnElement[Any] = func.coalesce(func.sum(snapshots.c.memory_bytes + snapshots.c.disk_bytes), 0)
    # Cast: PostgreSQL's sum of large integers is a decimal.
    return connection.execute(
        select(cast(size, BigInteger)).where(
            snapshots.c.project_id == project_id, snapshots.c.state != SnapshotState.DELETED.value
        )
    ).scalar_one()


def _limits(connection: Connection, project_id: ProjectId) -> Row[Any]:
    row = connection.execute(_PROJECT, {"id": project_id}).first()
    if row is None:
        raise NotFound(f"there is no project {project_id}")
    return row
