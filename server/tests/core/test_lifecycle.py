from __future__ import annotations

import itertools

import pytest

from atolld.core.lifecycle import ACTIVE_STATES, HOLDING_STATES, LIVE_STATES, Action, SandboxState, transition
from atolld.foundation.errors import FailedPrecondition

S, A = SandboxState, Action

# Written out by hand, so that a change of the table has to be made twice on purpose.
ALLOWED = {
    (S.CREATING, A.STARTED): S.RUNNING,
    (S.CREATING, A.FAIL): S.STOPPING,
    (S.CREATING, A.STOP): S.STOPPING,
    (S.RUNNING, A.STOP): S.STOPPING,
    (S.RUNNING, A.ENDED): S.ENDED,
    (S.RUNNING, A.FREEZE): S.FROZEN,
    (S.RUNNING, A.PAUSE): S.PAUSING,
    (S.RUNNING, A.ROLLBACK): S.RESUMING,
    (S.FROZEN, A.THAW): S.RUNNING,
    (S.FROZEN, A.PAUSE): S.PAUSING,
    (S.FROZEN, A.ROLLBACK): S.RESUMING,
    (S.FROZEN, A.STOP): S.STOPPING,
    (S.FROZEN, A.ENDED): S.ENDED,
    (S.PAUSING, A.PAUSED): S.PAUSED,
    (S.PAUSING, A.GO_ON): S.RUNNING,
    (S.PAUSING, A.STOP): S.STOPPING,
    (S.PAUSING, A.ENDED): S.ENDED,
    (S.PAUSED, A.RESUME): S.RESUMING,
    (S.PAUSED, A.ROLLBACK): S.RESUMING,
    (S.PAUSED, A.STOP): S.STOPPING,
    (S.RESUMING, A.STARTED): S.RUNNING,
    (S.RESUMING, A.GIVE_BACK): S.PAUSED,
    (S.RESUMING, A.STOP): S.STOPPING,
    (S.STOPPING, A.ENDED): S.ENDED,
}


@pytest.mark.parametrize(("state", "action"), list(itertools.product(S, A)))
def test_every_pair(state: SandboxState, action: Action) -> None:
    expected = ALLOWED.get((state, action))
    if expected is None:
        with pytest.raises(FailedPrecondition, match=f"{state.value} cannot take the action {action.value}"):
            transition(state, action)
    else:
        assert transition(state, action) is expected


def test_ended_is_the_only_dead_state_and_final() -> None:
    assert frozenset(S) - {S.ENDED} == LIVE_STATES
    assert not any(state is S.ENDED for state, _ in ALLOWED)


def test_what_the_states_hold() -> None:
    assert frozenset(S) - {S.ENDED, S.PAUSED} == HOLDING_STATES
    assert frozenset({S.RUNNING, S.FROZEN, S.PAUSING}) == ACTIVE_STATES


def test_from_every_live_state_there_is_a_way_to_the_end() -> None:
    for state in LIVE_STATES:
        reached, new = {state}, {state}
        while new:
            new = {target for (source, _), target in ALLOWED.items() if source in new} - reached
            reached |= new
        assert S.ENDED in reached
