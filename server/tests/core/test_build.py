from __future__ import annotations

import itertools

import pytest

from atolld.core.build import BuildState, build_transition
from atolld.foundation.errors import FailedPrecondition

S = BuildState
# Written out by hand, so that a change of the table has to be made twice on purpose.
ALLOWED = {
    (S.WAITING, S.BUILDING),
    (S.WAITING, S.FAILED),
    (S.BUILDING, S.READY),
    (S.BUILDING, S.FAILED),
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(S, S)))
def test_every_pair(source: BuildState, target: BuildState) -> None:
    if (source, target) in ALLOWED:
        assert build_transition(source, target) is target
    else:
        with pytest.raises(FailedPrecondition, match=f"{source.value} cannot become {target.value}"):
            build_transition(source, target)
