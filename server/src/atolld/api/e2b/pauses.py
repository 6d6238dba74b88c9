"""Pause, resume and connect."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from atolld.api.e2b.creation import timeout_s
from atolld.api.e2b.options import Options
from atolld.api.e2b.query import PAUSED_STATES, sandbox_id
from atolld.api.e2b.requests import Connect, Pause, Resume
from atolld.api.e2b.views import PauseMode, SandboxView
from atolld.api.services import Caller, Services, Use
from atolld.core.lifecycle import SandboxState
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.core.project import Principal
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import (
    Conflict,
    FailedPrecondition,
    GuestUnreachable,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from atolld.foundation.ids import SandboxId

router = APIRouter(tags=["sandboxes"])

GUEST_UNRESPONSIVE = "sandbox_snapshot_guest_agent_unresponsive"

_SAYS_PAUSED = frozenset({SandboxState.PAUSED.value, SandboxState.PAUSING.value})
_MODES: dict[SaveKind, PauseMode] = {SaveKind.MEMORY: "full", SaveKind.FILESYSTEM: "filesystem"}


@router.post("/sandboxes/{id}/pause", status_code=204)
async def pause_sandbox(id: str, use: Use, caller: Caller, body: Pause | None = None) -> None:
    """Save a sandbox to disk and free its memory; without `memory` its processes end and its files are kept.

    409: it is paused already. With `requireHealthyGuest`, 503 when its agent does not answer; it goes on.
    """
    asked, wanted = body or Pause(), sandbox_id(id)
    if asked.requireHealthyGuest:
        await _require_agent(use, caller, wanted)
    try:
        kind = SaveKind.FILESYSTEM if asked.memory is False else SaveKind.MEMORY
        await use.sandboxes.pause(caller.project_id, wanted, kind)
    except FailedPrecondition as error:
        if error.details.get("state") in _SAYS_PAUSED:
            raise
        # Clients take every 409 here for "it is paused already".
        raise InvalidArgument(error.message) from None
    except Conflict as error:
        raise Unavailable(error.message) from None


@router.post("/sandboxes/{id}/resume", status_code=201, response_model_exclude_none=True)
async def resume_sandbox(
    id: str, use: Use, caller: Caller, options: Options, body: Resume | None = None
) -> SandboxView:
    """Resume a paused sandbox; it lives `timeout` seconds from now. 409: it runs (deprecated by E2B)."""
    asked, wanted = body or Resume(), sandbox_id(id)
    lives_s = timeout_s(asked.timeout, options)
    try:
        sandbox = await use.sandboxes.resume(caller.project_id, wanted, lives_s, _reboot(asked.memory))
    except GuestUnreachable as error:
        raise await _unresponsive(use, caller, wanted, error) from None
    if asked.autoPause is not None:
        change = partial(_with_auto_pause, asked.autoPause)
        sandbox = await use.sandboxes.set_lifecycle(caller.project_id, wanted, change)
    return SandboxView.of(sandbox, options)


CONNECTED: dict[int | str, dict[str, Any]] = {
    201: {"model": SandboxView, "description": "It was paused and has been resumed."}
}


@router.post("/sandboxes/{id}/connect", response_model_exclude_none=True, responses=CONNECTED)
@router.post(
    "/v2/sandboxes/{id}/connect", name="connect_sandbox_v2", response_model_exclude_none=True, responses=CONNECTED
)
async def connect_sandbox(
    id: str, use: Use, caller: Caller, options: Options, response: Response, body: Connect | None = None
) -> SandboxView:
    """Begin to use a sandbox: resumed when it is paused; it lives at least `timeout` seconds from now.

    `memory` false: one that is paused is started anew from its files, whatever was saved.
    """
    asked, wanted = body or Connect(), sandbox_id(id)
    lives_s = timeout_s(asked.timeout, options)
    try:
        sandbox, resumed = await use.sandboxes.connect(caller.project_id, wanted, lives_s, _reboot(asked.memory))
    except GuestUnreachable as error:
        raise await _unresponsive(use, caller, wanted, error) from None
    if resumed:
        response.status_code = 201
    return SandboxView.of(sandbox, options)


async def pause_mode(use: Services, sandbox: Sandbox) -> PauseMode | None:
    """What the pause of a paused sandbox has saved; None for any other."""
    kind = await use.snapshots.saved_as(sandbox)
    return None if kind is None else _MODES[kind]


def not_running(error: FailedPrecondition, id: SandboxId) -> NotFound | FailedPrecondition:
    """How E2B tells that `id` is paused where only a running one will do: as if it were not there."""
    state = error.details.get("state")
    if state in {one.value for one in PAUSED_STATES}:
        return NotFound(f"sandbox {id} is not running, it is {state}; connect to it first")
    return error


async def _require_agent(use: Services, caller: Principal, id: SandboxId) -> None:
    sandbox = await use.sandboxes.get(caller.project_id, id)
    if sandbox.state in PAUSED_STATES:
        return
    endpoint = await use.sandboxes.wake(id)
    if endpoint is None or not await use.agent_answers(endpoint):
        raise Unavailable(
            f"the agent of sandbox {id} does not answer, so it was not paused; "
            "leave out requireHealthyGuest to pause it as it is"
        )


async def _unresponsive(
    use: Services, caller: Principal, id: SandboxId, error: GuestUnreachable
) -> GuestUnreachable | FailedPrecondition:
    """What to tell of a sandbox that did not answer when it was resumed, and is paused again."""
    if await pause_mode(use, await use.sandboxes.get(caller.project_id, id)) != "full":
        return error
    return FailedPrecondition(
        f"the agent of sandbox {id} does not answer with the memory that was saved; "
        "with memory: false it is started anew from its files",
        error_code=GUEST_UNRESPONSIVE,
    )


def _reboot(memory: bool | None) -> SaveKind | None:
    # True means what was saved, which may be files only.
    return SaveKind.FILESYSTEM if memory is False else None


def _with_auto_pause(pauses: bool, policy: LifecyclePolicy) -> LifecyclePolicy:
    return replace(policy, on_timeout=OnTimeout.PAUSE if pauses else OnTimeout.KILL)
