"""The life of a sandbox: one table, one function.

    creating ──started──▶ running ◀──thaw── frozen           running, frozen ──pause──▶ pausing ──paused──▶ paused
        │                  │  └──freeze──▶    │               pausing ──go_on──▶ running (it could not be saved)
        └─fail─▶ stopping ◀┴──────stop────────┘               paused ──resume──▶ resuming ──started──▶ running
                    └──ended──▶ ended                         running, frozen, paused ──rollback──▶ resuming
                                                              resuming ──give_back──▶ paused (it did not come up)

`stopping` means: the decision is made and written, the resources may still exist. A daemon that finds a row in
`creating` or `stopping` at its start cleans up and moves it to `ended`. `pausing`: it still runs, or stands still while
it is saved; the save that is being written counts only once the row is `paused`. `resuming`: it is brought up from the
save that its row names; whatever ran of it before is void. A daemon that finds `resuming` moves it back to `paused`.
"""

from __future__ import annotations

from enum import StrEnum

from atolld.foundation.errors import FailedPrecondition


class SandboxState(StrEnum):
    """Where a sandbox stands; the text is what the API shows."""

    CREATING = "creating"
    RUNNING = "running"
    FROZEN = "frozen"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STOPPING = "stopping"
    ENDED = "ended"


class Action(StrEnum):
    """What can happen to a sandbox."""

    STARTED = "started"
    FAIL = "fail"
    STOP = "stop"
    FREEZE = "freeze"
    THAW = "thaw"
    PAUSE = "pause"
    PAUSED = "paused"
    GO_ON = "go_on"
    RESUME = "resume"
    ROLLBACK = "rollback"
    GIVE_BACK = "give_back"
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
    (SandboxState.RUNNING, Action.FREEZE): SandboxState.FROZEN,
    (SandboxState.RUNNING, Action.PAUSE): SandboxState.PAUSING,
    (SandboxState.RUNNING, Action.ROLLBACK): SandboxState.RESUMING,
    (SandboxState.FROZEN, Action.THAW): SandboxState.RUNNING,
    (SandboxState.FROZEN, Action.PAUSE): SandboxState.PAUSING,
    (SandboxState.FROZEN, Action.ROLLBACK): SandboxState.RESUMING,
    (SandboxState.FROZEN, Action.STOP): SandboxState.STOPPING,
    (SandboxState.FROZEN, Action.ENDED): SandboxState.ENDED,
    (SandboxState.PAUSING, Action.PAUSED): SandboxState.PAUSED,
    (SandboxState.PAUSING, Action.GO_ON): SandboxState.RUNNING,
    (SandboxState.PAUSING, Action.STOP): SandboxState.STOPPING,
    (SandboxState.PAUSING, Action.ENDED): SandboxState.ENDED,
    (SandboxState.PAUSED, Action.RESUME): SandboxState.RESUMING,
    (SandboxState.PAUSED, Action.ROLLBACK): SandboxState.RESUMING,
    (SandboxState.PAUSED, Action.STOP): SandboxState.STOPPING,
    (SandboxState.RESUMING, Action.STARTED): SandboxState.RUNNING,
    (SandboxState.RESUMING, Action.GIVE_BACK): SandboxState.PAUSED,
    (SandboxState.RESUMING, Action.STOP): SandboxState.STOPPING,
    (SandboxState.STOPPING, Action.ENDED): SandboxState.ENDED,
}

# All that have not ended.
LIVE_STATES = frozenset(SandboxState) - {SandboxState.ENDED}
# Those that hold CPU and memory of the machine (a paused one holds disk only).
HOLDING_STATES = LIVE_STATES - {SandboxState.PAUSED}
# Those whose processes exist and are not being taken down.
ACTIVE_STATES = frozenset({SandboxState.RUNNING, SandboxState.FROZEN, SandboxState.PAUSING})


def transition(state: SandboxState, action: Action) -> SandboxState:
    """The state after `action` in `state`.

    Raises FailedPrecondition when the table does not allow it.
    """
    try:
        return TRANSITIONS[state, action]
    except KeyError:
        raise FailedPrecondition(f"a sandbox that is {state.value} cannot take the action {action.value}") from None
