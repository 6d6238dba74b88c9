from __future__ import annotations

from typing import Any

import pytest

from atolld.api.e2b.creation import lifecycle_of, refuse_what_is_missing
from atolld.api.e2b.requests import NewSandbox
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.foundation.errors import AtollError, InvalidArgument, Unimplemented


@pytest.mark.parametrize(
    "body",
    [
        {"iam": {"tokens": {}}, "volumeMounts": [], "mcp": {}},
        {"unheardOf": {"x": 1}},
    ],
)
def test_what_asks_for_nothing_passes(body: dict[str, Any]) -> None:
    refuse_what_is_missing(NewSandbox.model_validate({"templateID": "base", **body}))


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ({"mcp": {"github": {}}}, Unimplemented, "mcp"),
        ({"iam": {"tokens": {"a": {}}}}, Unimplemented, "iam"),
        ({"volumeMounts": [{"name": "v", "path": "/v"}]}, Unimplemented, "volumes"),
    ],
)
def test_what_is_not_there_is_never_ignored(body: dict[str, Any], kind: type[AtollError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        refuse_what_is_missing(NewSandbox.model_validate({"templateID": "base", **body}))


PAUSE = OnTimeout.PAUSE
RESUMES = {"autoResume": {"enabled": True}}


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        ({}, LifecyclePolicy(auto_resume=False)),
        ({"autoPause": False, "autoPauseMemory": True}, LifecyclePolicy(auto_resume=False)),
        ({"autoResume": {"enabled": False}}, LifecyclePolicy(auto_resume=False)),
        ({"autoResume": {}}, LifecyclePolicy(auto_resume=False)),
        ({"autoPause": True}, LifecyclePolicy(PAUSE, auto_resume=False)),
        ({"autoPause": True, "autoPauseMemory": False}, LifecyclePolicy(PAUSE, keep_memory=False, auto_resume=False)),
        ({"autoPause": True} | RESUMES, LifecyclePolicy(PAUSE, auto_resume=True)),
        # It may be paused by hand, and a request wakes it then.
        (RESUMES, LifecyclePolicy(auto_resume=True)),
    ],
)
def test_policies(body: dict[str, Any], policy: LifecyclePolicy) -> None:
    assert lifecycle_of(NewSandbox.model_validate({"templateID": "base", **body})) == policy


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"autoPauseMemory": False}, "autoPauseMemory can only be false"),
        ({"autoPauseMemory": False} | RESUMES, "autoPauseMemory can only be false"),
        ({"autoPause": True, "autoPauseMemory": False} | RESUMES, "autoResume cannot be enabled"),
    ],
)
def test_policies_that_contradict_themselves(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        lifecycle_of(NewSandbox.model_validate({"templateID": "base", **body}))
