"""`/sandboxes` and `/v2/sandboxes`: create, look, end, prolong, connect, network."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header

from atolld.api.e2b.creation import spec_of, timeout_s
from atolld.api.e2b.network import change_of
from atolld.api.e2b.options import E2bOptions, Options
from atolld.api.e2b.query import sandbox_id
from atolld.api.e2b.requests import (
    LONG_TIMEOUT_S,
    SHORT_TIMEOUT_S,
    Connect,
    NetworkUpdate,
    NewSandbox,
    Refresh,
    SetTimeout,
)
from atolld.api.e2b.templates import find_template
from atolld.api.e2b.views import SandboxDetail, SandboxView
from atolld.api.services import Caller, Services, Use
from atolld.core.project import Principal
from atolld.foundation.errors import Conflict, FailedPrecondition, InvalidArgument

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
    return SandboxDetail.detail(await use.sandboxes.get(caller.project_id, sandbox_id(id)), options)


@router.delete("/sandboxes/{id}", status_code=204)
async def kill_sandbox(id: str, use: Use, caller: Caller) -> None:
    """End a sandbox; nothing of it is left when this answers."""
    await use.sandboxes.kill(caller.project_id, sandbox_id(id))


@router.post("/sandboxes/{id}/timeout", status_code=204)
async def set_timeout(id: str, body: SetTimeout, use: Use, caller: Caller, options: Options) -> None:
    """Set the end anew, counted from now; it may come nearer or go farther."""
    await use.sandboxes.set_timeout(caller.project_id, sandbox_id(id), timeout_s(body.timeout, options))


@router.post("/sandboxes/{id}/refreshes", status_code=204)
async def refresh_sandbox(id: str, use: Use, caller: Caller, options: Options, body: Refresh | None = None) -> None:
    """Let the sandbox live at least `duration` seconds from now, 15 by default."""
    asked = body.duration if body is not None else None
    duration_s = timeout_s(SHORT_TIMEOUT_S if asked is None else asked, options)
    await use.sandboxes.extend_timeout(caller.project_id, sandbox_id(id), duration_s)


@router.post("/sandboxes/{id}/connect", response_model_exclude_none=True)
async def connect_sandbox(
    id: str, use: Use, caller: Caller, options: Options, body: Connect | None = None
) -> SandboxView:
    """Begin to use a running sandbox; it lives at least `timeout` seconds from now."""
    return await _connect(use, caller, options, id, body or Connect())


@router.post("/v2/sandboxes/{id}/connect", response_model_exclude_none=True)
async def connect_sandbox_v2(
    id: str, use: Use, caller: Caller, options: Options, body: Connect | None = None
) -> SandboxView:
    """As the first form."""
    return await _connect(use, caller, options, id, body or Connect())


@router.post("/sandboxes/{id}/resume", status_code=201, response_model_exclude_none=True)
async def resume_sandbox(id: str, use: Use, caller: Caller) -> SandboxView:
    """Resume a paused sandbox; none is ever paused so far, so a live one is always a conflict."""
    sandbox = await use.sandboxes.get(caller.project_id, sandbox_id(id))
    raise FailedPrecondition(f"Sandbox {sandbox.id} is already running")


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
    template = await find_template(use, caller, body.templateID)
    spec = spec_of(body, template, options, secure=secure, timeout=timeout)
    try:
        sandbox = await use.sandboxes.create(caller.project_id, spec, idempotency_key)
    except Conflict as error:
        raise Conflict(error.message, error_code="idempotency_request_mismatch") from None
    return SandboxView.of(sandbox, options)


async def _connect(use: Services, caller: Principal, options: E2bOptions, id: str, body: Connect) -> SandboxView:
    wanted_s = timeout_s(body.timeout, options)
    return SandboxView.of(await use.sandboxes.extend_timeout(caller.project_id, sandbox_id(id), wanted_s), options)
