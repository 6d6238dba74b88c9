"""Forks: new sandboxes with the memory and files that a running one has now."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from atolld.api.e2b.creation import timeout_s
from atolld.api.e2b.options import E2bOptions, Options
from atolld.api.e2b.query import sandbox_id
from atolld.api.e2b.requests import Fork
from atolld.api.e2b.views import ErrorView, SandboxView
from atolld.api.errors import row_of
from atolld.api.services import Caller, Use
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import AtollError, InvalidArgument

router = APIRouter(tags=["sandboxes"])

MAX_FORKS = 20


class ForkView(BaseModel):
    """One of the forks: the sandbox, or why there is none."""

    sandbox: SandboxView | None = None
    error: ErrorView | None = None

    @staticmethod
    def of(made: Sandbox | AtollError, options: E2bOptions) -> ForkView:
        """The view of `made`."""
        if isinstance(made, Sandbox):
            return ForkView(sandbox=SandboxView.of(made, options))
        row = row_of(type(made)).e2b
        return ForkView(error=ErrorView(code=row.http, message=made.message, error_code=row.error_code))


@router.post("/sandboxes/{id}/fork", status_code=201, response_model_exclude_none=True)
async def fork_sandbox(id: str, use: Use, caller: Caller, options: Options, body: Fork | None = None) -> list[ForkView]:
    """`count` (1 to 20) new sandboxes that go on from where this one is now; each lives `timeout` seconds.

    Each comes up or fails by itself, with an entry of its own. 409: the sandbox is paused.
    """
    asked = body or Fork()
    if not 1 <= asked.count <= MAX_FORKS:
        raise InvalidArgument(f"count is {asked.count}; it must be between 1 and {MAX_FORKS}")
    lives_s = timeout_s(asked.timeout, options)
    made = await use.sandboxes.fork(caller.project_id, sandbox_id(id), asked.count, lives_s)
    return [ForkView.of(one, options) for one in made]
