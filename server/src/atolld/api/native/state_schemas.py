"""What goes over the wire about pausing, resuming, forking and rolling back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydantic import BaseModel, Field

from atolld.api.native.schemas import Policy, Request, SandboxView, Strict, TimeoutS
from atolld.control.resuming import Unchanged
from atolld.core.policy import LifecyclePolicy
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import AtollError

MAX_FORKS = 100

KIND = "`memory`: processes, memory and files. `filesystem`: files only; its processes end and it boots anew."
NEW_TIMEOUT = "Seconds from now that it lives; null: for ever. Left out: as long as it was made to live."


class PauseSandbox(Request):
    """How to pause it."""

    kind: SaveKind = Field(SaveKind.MEMORY, description=KIND)


class ResumeSandbox(Request):
    """How to resume it."""

    timeout_s: TimeoutS | None = Field(None, description=NEW_TIMEOUT)
    kind: SaveKind | None = Field(
        None, description="`filesystem` boots it anew from its files although its memory was saved too."
    )

    def wanted_timeout_s(self) -> int | None | Unchanged:
        """Seconds, None for ever, or as it was."""
        return self.timeout_s if "timeout_s" in self.model_fields_set else Unchanged.TIMEOUT


class ForkSandbox(Request):
    """How many siblings, and how long they live."""

    count: Strict = Field(1, ge=1, le=MAX_FORKS)
    timeout_s: TimeoutS | None = Field(None, description=NEW_TIMEOUT)

    def wanted_timeout_s(self) -> int | None | Unchanged:
        """Seconds, None for ever, or as the source's was."""
        return self.timeout_s if "timeout_s" in self.model_fields_set else Unchanged.TIMEOUT


class RollBack(Request):
    """Where to go back to."""

    snapshot: str = Field(min_length=1, max_length=256, description="Id or name of a snapshot of the same tree.")


class SetLifecycle(Policy):
    """A policy. With PUT, what is left out has its default; with PATCH it stays as it is."""

    def to_change(self) -> Callable[[LifecyclePolicy], LifecyclePolicy]:
        """The change that only the given fields make."""
        policy = self.to_policy()
        given = {name: getattr(policy, name) for name in self.model_fields_set}
        return lambda before: replace(before, **given)


class FaultView(BaseModel):
    """Why one of several did not come about; as in an error's answer."""

    code: str
    message: str
    details: dict[str, object] | None = None


class ForkView(BaseModel):
    """One sibling that was asked for: the sandbox, or why there is none. The other of the two is null."""

    sandbox: SandboxView | None = None
    error: FaultView | None = None

    @staticmethod
    def of(outcome: Sandbox | AtollError) -> ForkView:
        """The view of one outcome."""
        if isinstance(outcome, AtollError):
            details = dict(outcome.details) or None
            return ForkView(error=FaultView(code=outcome.code, message=outcome.message, details=details))
        return ForkView(sandbox=SandboxView.of(outcome))
