from __future__ import annotations

import itertools

import pytest

from atolld.core.build import Base, BaseKind, BuildState, Plan, Run, Stage, User, Where, build_transition
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


def test_what_a_build_adds_of_itself_is_none_of_the_users_steps() -> None:
    steps = (
        User(Where(0, 0, "", "base"), "user"),
        Run(Where(2, 0, ""), ("true",)),
        Run(Where(0, 0, "", "finalize"), ()),
    )
    plan = Plan((Stage(Base(BaseKind.SCRATCH), (Run(Where(1, 0, ""), ()),)), Stage(Base(BaseKind.SCRATCH), steps)))
    assert plan.total == 2 and Plan(()).total == 0
    assert [step.where.step for step in steps] == ["base", "2", "finalize"]
