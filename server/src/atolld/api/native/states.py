"""`/v1/sandboxes/{id}/...`: pause, resume, freeze, fork, roll back, and the policy that does some of it by itself."""

from __future__ import annotations

from fastapi import APIRouter

from atolld.api.native.query import sandbox_id
from atolld.api.native.schemas import Items, SandboxView
from atolld.api.native.state_schemas import (
    ForkSandbox,
    ForkView,
    PauseSandbox,
    ResumeSandbox,
    RollBack,
    SetLifecycle,
)
from atolld.api.services import Caller, Use

router = APIRouter(prefix="/v1/sandboxes", tags=["state"])


@router.post("/{id}/pause")
async def pause_sandbox(id: str, use: Use, caller: Caller, body: PauseSandbox | None = None) -> SandboxView:
    """Save a sandbox to disk and free its memory. It keeps its id; its timeout does not run meanwhile.

    `failed_precondition` has the detail `state` when it is paused already, or does not run.
    """
    kind = (body or PauseSandbox()).kind
    return SandboxView.of(await use.sandboxes.pause(caller.project_id, sandbox_id(id), kind))


@router.post("/{id}/resume")
async def resume_sandbox(id: str, use: Use, caller: Caller, body: ResumeSandbox | None = None) -> SandboxView:
    """Bring a paused or frozen sandbox back. `failed_precondition` has the detail `state` when it is neither."""
    wanted = body or ResumeSandbox()
    timeout_s = wanted.wanted_timeout_s()
    return SandboxView.of(await use.sandboxes.resume(caller.project_id, sandbox_id(id), timeout_s, wanted.kind))


@router.post("/{id}/freeze")
async def freeze_sandbox(id: str, use: Use, caller: Caller) -> SandboxView:
    """Stop a sandbox's processes where they are and keep its memory; the next request to it wakes it."""
    return SandboxView.of(await use.sandboxes.freeze(caller.project_id, sandbox_id(id)))


@router.post("/{id}/fork", status_code=201)
async def fork_sandbox(id: str, use: Use, caller: Caller, body: ForkSandbox | None = None) -> Items[ForkView]:
    """New sandboxes with the memory and files that this one has now; it goes on. One entry for each, in no order."""
    wanted = body or ForkSandbox()
    timeout_s = wanted.wanted_timeout_s()
    outcomes = await use.sandboxes.fork(caller.project_id, sandbox_id(id), wanted.count, timeout_s)
    return Items(items=[ForkView.of(outcome) for outcome in outcomes])


@router.post("/{id}/rollback")
async def roll_back_sandbox(id: str, body: RollBack, use: Use, caller: Caller) -> SandboxView:
    """Put a sandbox back to a snapshot of its own tree: same id and address, the memory and files of then."""
    return SandboxView.of(await use.sandboxes.rollback(caller.project_id, sandbox_id(id), body.snapshot))


@router.put("/{id}/lifecycle")
async def set_lifecycle(id: str, body: SetLifecycle, use: Use, caller: Caller) -> SandboxView:
    """Replace what happens when its time is up and while it idles."""
    policy = body.to_policy()
    return SandboxView.of(await use.sandboxes.set_lifecycle(caller.project_id, sandbox_id(id), lambda _: policy))


@router.patch("/{id}/lifecycle")
async def change_lifecycle(id: str, body: SetLifecycle, use: Use, caller: Caller) -> SandboxView:
    """Change the given parts of what happens when its time is up and while it idles."""
    change = body.to_change()
    return SandboxView.of(await use.sandboxes.set_lifecycle(caller.project_id, sandbox_id(id), change))
