"""What goes over the wire about snapshots. The agent's token, which a snapshot's row holds, is never in it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from atolld.api.native.schemas import Request
from atolld.api.native.state_schemas import KIND
from atolld.core.snapshot import FileChange, FileDiff, SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.foundation.clock import rfc3339


class CreateSnapshot(Request):
    """How to keep it."""

    name: str | None = Field(
        None,
        description="1 to 128 of `a-z 0-9 . _ - /`, optionally `:` and a tag. One that is taken moves to this one.",
    )
    kind: SaveKind = Field(SaveKind.MEMORY, description=KIND)


class SnapshotView(BaseModel):
    """A snapshot. `sandbox_id` is what it was taken of, which may have ended since.

    `parent_id`: the checkpoint before it in its tree. `role`: `snapshot` for what was asked for, `pause` for what a
    paused sandbox resumes from. Sizes are bytes on disk; blocks that clones share count in full. `engine`: what wrote
    its memory, and alone can read it. `stopped_ms`: how long the sandbox stood still for it.
    """

    id: str
    name: str | None
    sandbox_id: str
    parent_id: str | None
    role: SnapshotRole
    state: SnapshotState
    kind: SaveKind
    template: str
    runtime: str
    cpu: float
    memory_mib: int
    disk_mib: int
    pids_max: int
    created_at: str
    size_bytes: int
    memory_bytes: int
    disk_bytes: int
    engine: str | None
    stopped_ms: float | None

    @staticmethod
    def of(snapshot: Snapshot) -> SnapshotView:
        """The view of `snapshot`."""
        bounds, saved = snapshot.resources, snapshot.saved
        return SnapshotView(
            id=snapshot.id,
            name=snapshot.name,
            sandbox_id=snapshot.sandbox_id,
            parent_id=snapshot.parent_id,
            role=snapshot.role,
            state=snapshot.state,
            kind=snapshot.kind,
            template=snapshot.template_name,
            runtime=snapshot.runtime,
            cpu=bounds.cpu,
            memory_mib=bounds.memory_mib,
            disk_mib=bounds.disk_mib,
            pids_max=bounds.pids_max,
            created_at=rfc3339(snapshot.created_at),
            size_bytes=snapshot.size_bytes,
            memory_bytes=0 if saved is None else saved.memory_bytes,
            disk_bytes=0 if saved is None else saved.disk_bytes,
            engine=None if saved is None else saved.engine,
            stopped_ms=None if saved is None else round(saved.stopped_s * 1000, 3),
        )


class SnapshotPage(BaseModel):
    """One page, newest first; `next_cursor` is null on the last."""

    items: list[SnapshotView]
    next_cursor: str | None


class CheckpointsView(BaseModel):
    """A tree of checkpoints, oldest first; `parent_id` joins them. `head_id`: where the sandbox stands, null when it
    has ended or stands on none."""

    items: list[SnapshotView]
    head_id: str | None


class FileDiffView(BaseModel):
    """One path that differs. `size_bytes` in the later snapshot, 0 when it was removed."""

    path: str
    change: FileChange
    size_bytes: int

    @staticmethod
    def of(diff: FileDiff) -> FileDiffView:
        """The view of `diff`."""
        return FileDiffView(path=diff.path, change=diff.change, size_bytes=diff.size_bytes)


class DiffView(BaseModel):
    """Paths that differ, in order. `complete` false: as many as `limit` were found, so there may be more."""

    items: list[FileDiffView]
    complete: bool
