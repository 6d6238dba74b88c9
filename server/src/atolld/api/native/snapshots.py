"""`/v1/snapshots`, and those of one sandbox: keep, look, compare, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from atolld.api.native.paths import EncodedRoute
from atolld.api.native.query import sandbox_id, snapshot_ref
from atolld.api.native.snapshot_schemas import (
    CheckpointsView,
    CreateSnapshot,
    DiffView,
    FileDiffView,
    SnapshotPage,
    SnapshotView,
)
from atolld.api.services import Caller, Use
from atolld.foundation.errors import NotFound

# `{id}` of a snapshot is its id or its name, with `/` sent as `%2F`.
router = APIRouter(tags=["snapshots"], route_class=EncodedRoute)


@router.post("/v1/sandboxes/{id}/snapshots", status_code=201)
async def create_snapshot(id: str, use: Use, caller: Caller, body: CreateSnapshot | None = None) -> SnapshotView:
    """Keep a sandbox as it is now; it goes on. Sandboxes are created from it by its name or id, as from a template."""
    wanted = body or CreateSnapshot()
    made = await use.snapshots.create(caller.project_id, sandbox_id(id), wanted.name, wanted.kind)
    return SnapshotView.of(made)


@router.get("/v1/sandboxes/{id}/checkpoints")
async def list_checkpoints(id: str, use: Use, caller: Caller) -> CheckpointsView:
    """The tree of checkpoints that a sandbox belongs to, its forks' and its ancestors' included."""
    of = sandbox_id(id)
    tree = await use.snapshots.tree(caller.project_id, of)
    try:
        head_id = (await use.sandboxes.get(caller.project_id, of)).head_id
    except NotFound:
        head_id = None
    return CheckpointsView(items=[SnapshotView.of(snapshot) for snapshot in tree], head_id=head_id)


@router.get("/v1/snapshots")
async def list_snapshots(
    use: Use,
    caller: Caller,
    sandbox: Annotated[str | None, Query(description="Only those taken of this sandbox.")] = None,
    name: Annotated[str | None, Query(max_length=128, description="Only the one with this name.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
) -> SnapshotPage:
    """The project's snapshots in pages."""
    of = None if sandbox is None else sandbox_id(sandbox)
    page = await use.snapshots.list(caller.project_id, sandbox_id=of, name=name, limit=limit, cursor=cursor)
    return SnapshotPage(items=[SnapshotView.of(snapshot) for snapshot in page.items], next_cursor=page.next_cursor)


@router.get("/v1/snapshots/{id}")
async def get_snapshot(id: str, use: Use, caller: Caller) -> SnapshotView:
    """One snapshot, by its id or name."""
    return SnapshotView.of(await use.snapshots.get(caller.project_id, snapshot_ref(id)))


@router.delete("/v1/snapshots/{id}", status_code=204)
async def delete_snapshot(id: str, use: Use, caller: Caller) -> None:
    """Forget a snapshot, by its id or name. What was started from it goes on."""
    await use.snapshots.delete(caller.project_id, snapshot_ref(id))


@router.get("/v1/snapshots/{id}/diff")
async def diff_snapshot(
    id: str,
    use: Use,
    caller: Caller,
    against: Annotated[str | None, Query(description="The earlier one, by id or name. Default: the template.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> DiffView:
    """Which files of a snapshot differ from those of an earlier one."""
    older = None if against is None else snapshot_ref(against)
    found = await use.snapshots.diff(caller.project_id, snapshot_ref(id), older, limit)
    return DiffView(items=[FileDiffView.of(diff) for diff in found], complete=len(found) < limit)
