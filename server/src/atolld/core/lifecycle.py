"""The life of a sandbox: one table, one function.

    creating ──started──▶ running ──stop──▶ stopping ──ended──▶ ended
        │                    └──────ended (died by itself)───────▲
        └──fail──▶ stopping ─────────────────────────────────────┘

`stopping` means: the decision is made and written, the resources may still exist. A daemon that finds a row in
`creating` or `stopping` at its start cleans up and moves it to `ended`.
"""

from __future__ import annotations

from enum import StrEnum

from atolld.foundation.errors import FailedPrecondition


class SandboxState(StrEnum):
    """Where a sandbox stands; the text is what the API shows."""

    CREATING = "creating"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Action(StrEnum):
    """What can happen to a sandbox."""

    STARTED = "started"
    FAIL = "fail"
    STOP = "stop"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a sandbox ended."""

    KILLED = "killed"
    EXPIRED = "expired"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    CREATE_FAILED = "create_failed"
    SHUTDOWN = "shutdown"


TRANSITIONS: dict[tuple[SandboxState, Action], SandboxState] = {
    (SandboxState.CREATING, Action.STARTED): SandboxState.RUNNING,
    (SandboxState.CREATING, Action.FAIL): SandboxState.STOPPING,
    (SandboxState.CREATING, Action.STOP): SandboxState.STOPPING,
    (SandboxState.RUNNING, Action.STOP): SandboxState.STOPPING,
    (SandboxState.RUNNING, Action.ENDED): SandboxState.ENDED,
    (SandboxState.STOPPING, Action.ENDED): SandboxState.ENDED,
}

LIVE_STATES = frozenset({SandboxState.CREATING, SandboxState.RUNNING, SandboxState.STOPPING})


def transition(state: SandboxState, action: Action) -> SandboxState:
    """The state after `action` in `state`.

    Raises FailedPrecondition when the table does not allow it.
    """
    try:
        return TRANSITIONS[state, action]
    except KeyError:
        raise FailedPrecondition(f"a sandbox that is {state.value} cannot take the action {action.value}") from None
