from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atolld.control.records import created_event, killed_event, updated_event
from atolld.core.event import EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.ids import ProjectId, TemplateId, new_sandbox_id

SANDBOX = Sandbox(
    new_sandbox_id(),
    ProjectId("p"),
    TemplateId("t1"),
    "base",
    SandboxSpec(envs={"SECRET": "hunter2"}, metadata={"run": "7"}),
    SandboxState.CREATING,
    5.0,
    "token-of-the-agent",
)


def test_created_tells_what_was_granted_and_no_secret() -> None:
    event = created_event(SANDBOX, 10.0, 310.0)
    assert (event.type, event.sandbox_id, event.project_id, event.at) == (EventType.CREATED, SANDBOX.id, "p", 10.0)
    assert event.data == {
        "template": "base",
        "template_id": "t1",
        "runtime": "gvisor",
        "cpu": 1.0,
        "memory_mib": 512,
        "disk_mib": 10240,
        "expires_at": 310.0,
        "metadata": {"run": "7"},
    }
    assert "hunter2" not in json.dumps(event.data)
    assert "token-of-the-agent" not in json.dumps(event.data)


def test_updated_tells_what_changed() -> None:
    event = updated_event(SANDBOX, 11.0, expires_at=None)
    assert (event.type, event.data) == (EventType.UPDATED, {"expires_at": None})


@pytest.mark.parametrize(("at", "ran_s"), [(25.0, 15.0), (10.0, 0.0), (9.0, 0.0)])
def test_killed_tells_why_and_how_long_it_ran(at: float, ran_s: float) -> None:
    event = killed_event(replace(SANDBOX, started_at=10.0), at, EndReason.EXPIRED, "its time was up")
    assert event is not None
    assert event.data == {"reason": "expired", "message": "its time was up", "ran_s": ran_s}


def test_what_never_ran_was_never_killed() -> None:
    assert killed_event(SANDBOX, 10.0, EndReason.CREATE_FAILED, "x") is None
