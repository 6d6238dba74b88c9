"""`/sandboxes` and `/v2/sandboxes`: create, look, end, prolong, network."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Header

from atolld.api.e2b.creation import spec_of, timeout_s
from atolld.api.e2b.network import change_of
from atolld.api.e2b.options import E2bOptions, Options
from atolld.api.e2b.pauses import not_running, pause_mode
from atolld.api.e2b.query import sandbox_id
from atolld.api.e2b.requests import (
    LONG_TIMEOUT_S,
    SHORT_TIMEOUT_S,
    NetworkUpdate,
    NewSandbox,
    Refresh,
    SetTimeout,
)
from atolld.api.e2b.snapshots import find_origin
from atolld.api.e2b.views import SandboxDetail, SandboxView
from atolld.api.services import Caller, Services, Use
from atolld.core.project import Principal
from atolld.foundation.errors import Conflict, FailedPrecondition, InvalidArgument
from atolld.foundation.ids import SandboxId

router = APIRouter(tags=["sandboxes"])

IdempotencyKey = Annotated[str | None, Header(description="1 to 255 of a-z, 0-9 and '-'.")]

_KEY = re.compile(r"[A-Za-z0-9-]{1,255}")


@router.post("/sandboxes", status_code=201, response_model_exclude_none=True)
async def create_sandbox(body: NewSandbox, use: Use, caller: Caller, options: Options) -> SandboxView:
    """Create a sandbox, first form: open unless `secure`, 15 s by default."""
    return await _create(use, caller, options, body, None, secure=body.secure is True, timeout=SHORT_TIMEOUT_S)


@router.post("/v2/sandboxes", status_code=201, response_model_exclude_none=True)
async def create_sandbox_v2(
    body: NewSandbox, use: Use, caller: Caller, options: Options, idempotency_key: IdempotencyKey = None
) -> SandboxView:
    """Create a sandbox, second form: always secure, 300 s by default."""
    return await _create(use, caller, options, body, idempotency_key, secure=True, timeout=LONG_TIMEOUT_S)


@router.get("/sandboxes/{id}", response_model_exclude_none=True)
async def get_sandbox(id: str, use: Use, caller: Caller, options: Options) -> SandboxDetail:
    """One sandbox."""
    sandbox = await use.sandboxes.get(caller.project_id, sandbox_id(id))
    return SandboxDetail.detail(sandbox, options, await pause_mode(use, sandbox))


@router.delete("/sandboxes/{id}", status_code=204)
async def kill_sandbox(id: str, use: Use, caller: Caller) -> None:
    """End a sandbox; nothing of it is left when this answers."""
    await use.sandboxes.kill(caller.project_id, sandbox_id(id))


@router.post("/sandboxes/{id}/timeout", status_code=204)
async def set_timeout(id: str, body: SetTimeout, use: Use, caller: Caller, options: Options) -> None:
    """Set the end anew, counted from now; it may come nearer or go farther."""
    wanted, lives_s = sandbox_id(id), timeout_s(body.timeout, options)
    await _of_a_running_one(wanted, use.sandboxes.set_timeout(caller.project_id, wanted, lives_s))


@router.post("/sandboxes/{id}/refreshes", status_code=204)
async def refresh_sandbox(id: str, use: Use, caller: Caller, options: Options, body: Refresh | None = None) -> None:
    """Let the sandbox live at least `duration` seconds from now, 15 by default."""
    wanted, asked = sandbox_id(id), body.duration if body is not None else None
    lives_s = timeout_s(SHORT_TIMEOUT_S if asked is None else asked, options)
    await _of_a_running_one(wanted, use.sandboxes.extend_timeout(caller.project_id, wanted, lives_s))


@router.put("/sandboxes/{id}/network", status_code=204)
async def set_network(id: str, body: NetworkUpdate, use: Use, caller: Caller) -> None:
    """Replace what the sandbox may reach, while it runs."""
    await use.sandboxes.change_network(caller.project_id, sandbox_id(id), change_of(body))


async def _create(
    use: Services,
    caller: Principal,
    options: E2bOptions,
    body: NewSandbox,
    idempotency_key: str | None,
    *,
    secure: bool,
    timeout: int,
) -> SandboxView:
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise InvalidArgument("Idempotency-Key must be 1 to 255 characters of a-z, 0-9 and '-'")
    origin = await find_origin(use, caller, body.templateID, options)
    spec = spec_of(body, origin, options, secure=secure, timeout=timeout)
    try:
        sandbox = await use.sandboxes.create(caller.project_id, spec, idempotency_key)
    except Conflict as error:
        raise Conflict(error.message, error_code="idempotency_request_mismatch") from None
    return SandboxView.of(sandbox, options)


async def _of_a_running_one(id: SandboxId, work: Awaitable[object]) -> None:
    try:
        await work
    except FailedPrecondition as error:
        raise not_running(error, id) from None
