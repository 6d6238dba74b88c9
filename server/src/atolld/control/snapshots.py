"""Snapshots: what users keep of their sandboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from atolld.core.snapshot import FileDiff, SaveKind, Snapshot
from atolld.foundation.errors import Unimplemented
from atolld.foundation.ids import ProjectId, SandboxId

_SOON = "snapshots are not there yet"


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Snapshots, newest first, and where to go on (None: that was all)."""

    items: Sequence[Snapshot]
    next_cursor: str | None


class Snapshots:
    """The snapshots of all projects."""

    async def create(
        self, project_id: ProjectId, sandbox_id: SandboxId, name: str | None = None, kind: SaveKind = SaveKind.MEMORY
    ) -> Snapshot:
        """Keep a running sandbox as it is now; it goes on. A name that another snapshot has moves to this one.

        Raises NotFound, InvalidArgument (name), FailedPrecondition (it does not run, the runtime cannot, or the guest
        holds what cannot be saved), LimitExceeded, Capacity.
        """
        raise Unimplemented(_SOON)

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        """Raises NotFound."""
        raise Unimplemented(_SOON)

    async def list(
        self,
        project_id: ProjectId,
        *,
        sandbox_id: SandboxId | None = None,
        name: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SnapshotPage:
        """Newest first. Raises InvalidArgument on a limit outside 1 to 100 or a cursor that is none of ours."""
        raise Unimplemented(_SOON)

    async def delete(self, project_id: ProjectId, id_or_name: str) -> None:
        """It is gone for every caller at once; its files go when nothing starts from them any more. Raises NotFound."""
        raise Unimplemented(_SOON)

    async def tree(self, project_id: ProjectId, sandbox_id: SandboxId) -> Sequence[Snapshot]:
        """The tree of checkpoints that a sandbox (also an ended one) belongs to, oldest first. Raises NotFound."""
        raise Unimplemented(_SOON)

    async def diff(
        self, project_id: ProjectId, newer: str, older: str | None = None, limit: int = 1000
    ) -> Sequence[FileDiff]:
        """What files differ; `older` None: against the template. Raises NotFound, FailedPrecondition (other templates),
        InvalidArgument (limit not 1 to 10,000)."""
        raise Unimplemented(_SOON)

    async def export(self, project_id: ProjectId, id_or_name: str) -> AsyncIterator[bytes]:
        """The snapshot as one stream (not encrypted: that is the caller's part). Raises NotFound before the first
        byte."""
        raise Unimplemented(_SOON)

    async def import_(self, project_id: ProjectId, name: str | None, stream: AsyncIterator[bytes]) -> Snapshot:
        """Store what `export` gave, here or on another machine. Raises as `Node.import_save`, and LimitExceeded."""
        raise Unimplemented(_SOON)
