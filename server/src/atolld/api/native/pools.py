"""`/v1/pools`: running sandboxes kept ready, so that a create need not wait for one to start."""

from __future__ import annotations

from fastapi import APIRouter

from atolld.api.native.pool_schemas import PoolView, SetPool
from atolld.api.native.query import pool_id
from atolld.api.native.schemas import Items
from atolld.api.services import Caller, Use
from atolld.control.origins import resolve_template

router = APIRouter(prefix="/v1/pools", tags=["pools"])


@router.put("")
async def set_pool(body: SetPool, use: Use, caller: Caller) -> PoolView:
    """Keep so many sandboxes waiting from now on. It fills in the background, never past what the machine has."""
    origin = await resolve_template(use.templates, use.snapshots, caller.project_id, body.template)
    runtime, resources = body.of(origin)
    return PoolView.of(await use.pools.set(caller.project_id, body.template, runtime, resources, body.ready))


@router.get("")
async def list_pools(use: Use, caller: Caller) -> Items[PoolView]:
    """The project's pools, oldest first."""
    return Items(items=[PoolView.of(status) for status in await use.pools.list(caller.project_id)])


@router.get("/{id}")
async def get_pool(id: str, use: Use, caller: Caller) -> PoolView:
    """One pool."""
    return PoolView.of(await use.pools.get(caller.project_id, pool_id(id)))


@router.delete("/{id}", status_code=204)
async def delete_pool(id: str, use: Use, caller: Caller) -> None:
    """End what waits in a pool and forget it."""
    await use.pools.delete(caller.project_id, pool_id(id))
