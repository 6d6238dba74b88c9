"""Snapshots: what users keep of their sandboxes. To E2B's clients they are templates of their own."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from atolld.api.e2b.names import DEFAULT_TAG, candidates, full_name, new_name
from atolld.api.e2b.options import E2bOptions
from atolld.api.e2b.query import sandbox_id
from atolld.api.e2b.requests import NewSnapshot
from atolld.api.e2b.templates import find_template, namespace_of, owned_template
from atolld.api.services import Caller, Services, Use
from atolld.control.origins import Origin
from atolld.control.projecttemplates import ProjectTemplate
from atolld.core.project import Principal
from atolld.core.snapshot import SaveKind, Snapshot
from atolld.foundation.errors import FailedPrecondition, InvalidArgument, NotFound

router = APIRouter(tags=["snapshots"])


class SnapshotView(BaseModel):
    """A snapshot. `snapshotID` is what a sandbox is made from (`templateID`) and what it is deleted by."""

    snapshotID: str
    names: list[str]

    @staticmethod
    def of(snapshot: Snapshot, namespace: str) -> SnapshotView:
        """The view of `snapshot`."""
        name = full_name(snapshot, namespace)
        return SnapshotView(snapshotID=name or f"{snapshot.id}:{DEFAULT_TAG}", names=[name] if name else [])


@router.post("/sandboxes/{id}/snapshots", status_code=201)
async def create_snapshot(id: str, use: Use, caller: Caller, body: NewSnapshot | None = None) -> SnapshotView:
    """Keep a running sandbox as it is now; it goes on. Without `memory`, its files only.

    A `name` that another snapshot has moves to this one.
    """
    asked, namespace = body or NewSnapshot(), await namespace_of(use, caller)
    name = new_name(asked.name, namespace) if asked.name else None
    if name is not None and await _is_template(use, caller, name):
        raise InvalidArgument(f"{name!r} is the name of a template; choose another one for the snapshot")
    kind = SaveKind.FILESYSTEM if asked.memory is False else SaveKind.MEMORY
    return SnapshotView.of(await use.snapshots.create(caller.project_id, sandbox_id(id), name, kind), namespace)


@router.get("/snapshots")
async def list_snapshots(
    use: Use,
    caller: Caller,
    response: Response,
    sandboxID: Annotated[str | None, Query(description="Of this sandbox only.")] = None,
    name: Annotated[str | None, Query(max_length=255, description="With this id or name; no tag: `default`.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    nextToken: Annotated[str | None, Query(max_length=512)] = None,
) -> list[SnapshotView]:
    """A page of snapshots, newest first; `x-next-token` is the `nextToken` of the next one, absent on the last."""
    namespace = await namespace_of(use, caller)
    source = sandbox_id(sandboxID) if sandboxID else None
    if name:
        found = await _named(use, caller, name)
        return [SnapshotView.of(one, namespace) for one in found if source in (None, one.sandbox_id)]
    page = await use.snapshots.list(caller.project_id, sandbox_id=source, limit=limit, cursor=nextToken)
    if page.next_cursor is not None:
        response.headers["x-next-token"] = page.next_cursor
    return [SnapshotView.of(one, namespace) for one in page.items]


@router.delete("/templates/{id}", status_code=204)
async def delete_snapshot(id: str, use: Use, caller: Caller) -> None:
    """Delete a template of the project with all its builds, by its id or name, or a snapshot."""
    await _delete(use, caller, unquote(id))


@router.delete("/templates/{space}/{name}", status_code=204, include_in_schema=False)
async def delete_snapshot_by_open_slash(space: str, name: str, use: Use, caller: Caller) -> None:
    """As `delete_snapshot`: clients of 2.21 send the slash of a name as it is."""
    await _delete(use, caller, f"{unquote(space)}/{unquote(name)}")


async def find_origin(use: Services, caller: Principal, text: str, options: E2bOptions) -> Origin:
    """What `templateID` names: a template or a snapshot. Raises NotFound."""
    try:
        template = await find_template(use, caller, text)
    except NotFound:
        found = await _named(use, caller, text)
        if not found:
            raise
        return Origin(found[0].id, found[0].runtime, found[0].resources, is_snapshot=True)
    if isinstance(template, ProjectTemplate):
        has_memory = template.memory is not None
        return Origin(template.build.id, template.runtime, template.resources, is_snapshot=False, has_memory=has_memory)
    return Origin(template.name, options.runtime, template.resources, is_snapshot=False)


async def _delete(use: Services, caller: Principal, text: str) -> None:
    found = await _named(use, caller, text)
    if found:
        await use.snapshots.delete(caller.project_id, found[0].id)
        return
    try:
        record = await owned_template(use, caller, text)
    except (InvalidArgument, NotFound):
        if await _is_template(use, caller, text):
            raise FailedPrecondition(f"template {text[:80]!r} is not the project's own: it cannot be deleted") from None
        raise NotFound(f"there is no template or snapshot {text[:80]!r}") from None
    await use.template_records.delete(caller.project_id, record.id)


async def _is_template(use: Services, caller: Principal, text: str) -> bool:
    try:
        await find_template(use, caller, text)
    except NotFound:
        return False
    return True


async def _named(use: Services, caller: Principal, text: str) -> list[Snapshot]:
    """The snapshot that `text` names, or nothing."""
    for name in candidates(text, await namespace_of(use, caller)):
        try:
            return [await use.snapshots.get(caller.project_id, name)]
        except NotFound:
            continue
    return []
