from __future__ import annotations

import itertools

import pytest

from atolld.core.lifecycle import LIVE_STATES, Action, SandboxState, transition
from atolld.foundation.errors import FailedPrecondition

S, A = SandboxState, Action

# Written out by hand, so that a change of the table has to be made twice on purpose.
ALLOWED = {
    (S.CREATING, A.STARTED): S.RUNNING,
    (S.CREATING, A.FAIL): S.STOPPING,
    (S.CREATING, A.STOP): S.STOPPING,
    (S.RUNNING, A.STOP): S.STOPPING,
    (S.RUNNING, A.ENDED): S.ENDED,
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
