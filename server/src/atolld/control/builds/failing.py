"""How a step fails: with what it said last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atolld.core.build import Failure
from atolld.foundation.errors import AtollError, FailedPrecondition

BASE = "base"
FINALIZE = "finalize"


class StepFailed(FailedPrecondition):
    """A step ended otherwise than it should. Its code is `failed_precondition`."""

    def __init__(
        self, message: str, step: str, *, exit_code: int | None = None, last_lines: Sequence[str] = ()
    ) -> None:
        self.failure = Failure(message, step, exit_code, tuple(last_lines))
        super().__init__(message, step=step, exit_code=exit_code, last_lines=list(last_lines))


def at_step(error: AtollError, step: str, text: str) -> StepFailed:
    """`error` as the failure of a step; one that is that already stays as it is."""
    if isinstance(error, StepFailed):
        return error
    return StepFailed(f"{text}: {error.message}", step)


def failure_of(error: BaseException) -> Failure:
    """What a build's row says of `error`."""
    if isinstance(error, StepFailed):
        return error.failure
    if isinstance(error, AtollError):
        return Failure(error.message)
    if isinstance(error, asyncio.CancelledError):
        return Failure("it was given up")
    return Failure("something broke in the daemon; its log says what")
