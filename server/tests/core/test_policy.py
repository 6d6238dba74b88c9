from __future__ import annotations

import json

import pytest

from atolld.core.policy import MAX_IDLE_S, LifecyclePolicy, OnIdle, OnTimeout
from atolld.foundation.errors import InvalidArgument


@pytest.mark.parametrize(
    "policy",
    [
        LifecyclePolicy(),
        LifecyclePolicy(OnTimeout.PAUSE, keep_memory=False, auto_resume=False),
        LifecyclePolicy(idle_timeout_s=1),
        LifecyclePolicy(idle_timeout_s=MAX_IDLE_S, on_idle=OnIdle.PAUSE),
        LifecyclePolicy(idle_timeout_s=60, pause_after_s=MAX_IDLE_S),
    ],
)
def test_good_ones_and_their_stored_form(policy: LifecyclePolicy) -> None:
    policy.check()
    stored = json.loads(json.dumps(policy.to_json()))
    assert LifecyclePolicy.from_json(stored) == policy
    assert stored["on_timeout"] == policy.on_timeout.value and stored["on_idle"] == policy.on_idle.value


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (LifecyclePolicy(idle_timeout_s=0), "idle_timeout_s is 0"),
        (LifecyclePolicy(idle_timeout_s=MAX_IDLE_S + 1), "idle_timeout_s"),
        (LifecyclePolicy(idle_timeout_s=60, pause_after_s=0), "pause_after_s is 0"),
        (LifecyclePolicy(idle_timeout_s=60, pause_after_s=MAX_IDLE_S + 1), "pause_after_s"),
        (LifecyclePolicy(pause_after_s=60), "pause_after_s needs idle_timeout_s"),
        (LifecyclePolicy(idle_timeout_s=60, on_idle=OnIdle.PAUSE, pause_after_s=60), "on_idle 'freeze'"),
    ],
)
def test_bad_ones(policy: LifecyclePolicy, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        policy.check()


def test_what_an_older_version_did_not_write_has_its_default() -> None:
    assert LifecyclePolicy.from_json({}) == LifecyclePolicy()
    assert LifecyclePolicy.from_json({"on_timeout": "pause"}) == LifecyclePolicy(OnTimeout.PAUSE)
