"""`/v1/sandboxes`: create, look, list, end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query

from atolld.api.native.query import metadata_filter, sandbox_id
from atolld.api.native.schemas import (
    ConnectSandbox,
    CreateSandbox,
    SandboxPage,
    SandboxView,
    SetNetwork,
    SetTimeout,
)
from atolld.api.services import Caller, Use
from atolld.control.lists import ListFilters
from atolld.control.origins import resolve_template
from atolld.control.resuming import Unchanged
from atolld.core.lifecycle import LIVE_STATES, SandboxState

router = APIRouter(prefix="/v1/sandboxes", tags=["sandboxes"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1, max_length=255, description="The same key with the same body gives the same sandbox, not another."
    ),
]


@router.post("", status_code=201)
async def create_sandbox(
    body: CreateSandbox, use: Use, caller: Caller, idempotency_key: IdempotencyKey = None
) -> SandboxView:
    """Create a sandbox and wait until it runs. It is not made at all when there is no room for it (`capacity`)."""
    origin = await resolve_template(use.templates, use.snapshots, caller.project_id, body.template)
    sandbox = await use.sandboxes.create(caller.project_id, body.to_spec(origin), idempotency_key)
    from_pool = use.sandboxes.was_warm(sandbox.id)
    return SandboxView.of(sandbox, use.sandboxes.last_phases(sandbox.id), from_pool)


@router.get("")
async def list_sandboxes(
    use: Use,
    caller: Caller,
    state: Annotated[
        list[SandboxState], Query(description="Only these; several may be given. Default: those that live.")
    ] = [],  # noqa: B006
    metadata: Annotated[
        str, Query(description="Pairs that all must match, form-encoded as one value: `metadata=k1%3Dv1%26k2%3Dv2`.")
    ] = "",
    template: Annotated[str | None, Query()] = None,
    started_after: Annotated[datetime | None, Query(description="RFC 3339.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By time of start.")] = "desc",
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
) -> SandboxPage:
    """The project's sandboxes in pages; with `state=ended` also those that have ended, while they are remembered."""
    filters = ListFilters(
        states=frozenset(state) or LIVE_STATES,
        metadata=metadata_filter(metadata),
        template=template,
        started_after=None if started_after is None else started_after.timestamp(),
        order=order,
    )
    page = await use.sandboxes.list(caller.project_id, filters, limit, cursor)
    return SandboxPage(
        items=[SandboxView.of(sandbox) for sandbox in page.items],
        next_cursor=page.next_cursor,
        total_running=page.total_running,
    )


@router.get("/{id}")
async def get_sandbox(id: str, use: Use, caller: Caller) -> SandboxView:
    """One live sandbox."""
    return SandboxView.of(await use.sandboxes.get(caller.project_id, sandbox_id(id)))


@router.delete("/{id}", status_code=204)
async def kill_sandbox(id: str, use: Use, caller: Caller) -> None:
    """End a sandbox; nothing of it is left when this answers."""
    await use.sandboxes.kill(caller.project_id, sandbox_id(id))


@router.post("/{id}/timeout")
async def set_timeout(id: str, body: SetTimeout, use: Use, caller: Caller) -> SandboxView:
    """Set the end anew, counted from now; it may come nearer or go farther."""
    return SandboxView.of(await use.sandboxes.set_timeout(caller.project_id, sandbox_id(id), body.timeout_s))


@router.post("/{id}/connect")
async def connect_sandbox(id: str, use: Use, caller: Caller, body: ConnectSandbox | None = None) -> SandboxView:
    """Begin to use a sandbox: it is resumed when it is paused or frozen. With `timeout_s` it lives at least that long
    from now; without, a resumed one lives as long as it was made to, and another as long as it did anyhow."""
    asked_s = None if body is None else body.timeout_s
    timeout_s = Unchanged.TIMEOUT if asked_s is None else asked_s
    sandbox, _ = await use.sandboxes.connect(caller.project_id, sandbox_id(id), timeout_s)
    return SandboxView.of(sandbox)


@router.put("/{id}/network")
async def set_network(id: str, body: SetNetwork, use: Use, caller: Caller) -> SandboxView:
    """Change what the sandbox may reach and who may reach it, while it runs."""
    change = body.to_change()
    return SandboxView.of(await use.sandboxes.change_network(caller.project_id, sandbox_id(id), change))
