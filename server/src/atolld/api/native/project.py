"""`/v1/project` and `/v1/keys`: who the key speaks for, and its keys."""

from __future__ import annotations

from fastapi import APIRouter

from atolld.api.native.schemas import CreatedKey, CreateKey, Items, KeyView, ProjectView
from atolld.api.services import Caller, Use
from atolld.control.lists import ListFilters
from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import NotFound
from atolld.foundation.ids import KeyId

router = APIRouter(tags=["project"])


@router.get("/v1/project")
async def get_project(use: Use, caller: Caller) -> ProjectView:
    """The project of the key, its limits, and what is used of them."""
    project = await use.projects.get(caller.project_id)
    page = await use.sandboxes.list(caller.project_id, ListFilters(states=frozenset({SandboxState.RUNNING})), 1, None)
    return ProjectView.of(project, page.total_running, use.node.capacity())


@router.get("/v1/keys")
async def list_keys(use: Use, caller: Caller) -> Items[KeyView]:
    """The project's keys, revoked ones too."""
    return Items(items=[KeyView.of(key) for key in await use.keys.list(caller.project_id)])


@router.post("/v1/keys", status_code=201)
async def create_key(body: CreateKey, use: Use, caller: Caller) -> CreatedKey:
    """A new key. Its secret is in this answer and nowhere else."""
    key, secret = await use.keys.create(caller.project_id, body.name)
    return CreatedKey(key=KeyView.of(key), secret=secret)


@router.delete("/v1/keys/{id}", status_code=204)
async def revoke_key(id: str, use: Use, caller: Caller) -> None:
    """End a key; it is refused from now on."""
    if len(id) > 64:
        raise NotFound("there is no such key")
    await use.keys.revoke(caller.project_id, KeyId(id))
