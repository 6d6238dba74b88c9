from __future__ import annotations

import dataclasses

import pytest

from atolld.api.native.machine_schemas import RuntimeView
from atolld.api.native.schemas import CreateSandbox, SandboxView, moment
from atolld.control.origins import Origin
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy, OnIdle, OnTimeout
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import ProjectId, SandboxId, TemplateId
from atolld.runtime.driver import Fingerprint, Power

LIFECYCLE = LifecyclePolicy(OnTimeout.PAUSE, False, False, 60, OnIdle.FREEZE, 600)
BASE = Origin("base", "gvisor", Resources(), is_snapshot=False)
POLICY = NetworkPolicy(False, ("1.1.1.1",), ("8.8.8.8/8",), False, "localhost:${PORT}")
SPEC = SandboxSpec("base", "gvisor", Resources(2.0, 64, 65, 66), 9, {"A": "1"}, {"m": "n"}, POLICY, lifecycle=LIFECYCLE)


def test_a_body_becomes_a_spec() -> None:
    body = {
        "template": "base",
        "runtime": "gvisor",
        "cpu": 2,
        "memory_mib": 64,
        "disk_mib": 65,
        "pids_max": 66,
        "timeout_s": 9,
        "envs": {"A": "1"},
        "metadata": {"m": "n"},
        "internet": False,
        "allow_out": ["1.1.1.1"],
        "deny_out": ["8.8.8.8/8"],
        "allow_public_traffic": False,
        "mask_request_host": "localhost:${PORT}",
        "on_timeout": "pause",
        "keep_memory": False,
        "auto_resume": False,
        "idle_timeout_s": 60,
        "on_idle": "freeze",
        "pause_after_s": 600,
    }
    assert CreateSandbox.model_validate(body).to_spec(BASE) == SPEC
    assert CreateSandbox().to_spec(BASE) == SandboxSpec(network=NetworkPolicy(allow_public_traffic=False))


def test_names_are_checked_at_the_edge() -> None:
    with pytest.raises(InvalidArgument, match="runtime"):
        CreateSandbox(runtime="a/b").to_spec(BASE)


def test_a_sandbox_is_shown_without_its_secrets() -> None:
    sandbox = Sandbox(
        SandboxId("i1"), ProjectId("p"), TemplateId("t"), "base", SPEC, SandboxState.ENDED, 1.0, "the-token"
    )
    sandbox = dataclasses.replace(sandbox, ended_at=2.5, end_reason=EndReason.EXPIRED, handle={"a": "the-handle"})
    view = SandboxView.of(sandbox, {"start": 0.0123456})
    assert view.ended_at == "1970-01-01T00:00:02.500Z" and view.end_reason is EndReason.EXPIRED
    assert view.timings_ms == {"start": 12.346}
    text = view.model_dump_json()
    assert "the-token" not in text and "the-handle" not in text and '"A"' not in text


def test_a_runtime_tells_what_it_lacks() -> None:
    found = Fingerprint("x", False, "not installed", "", "none", {Power.CHECKPOINT: "too old"}, {"path": "/x"})
    view = RuntimeView.of(found)
    assert view.missing == {"checkpoint": "too old"} and view.reason == "not installed"


def test_moments() -> None:
    assert moment(None) is None and moment(0.0) == "1970-01-01T00:00:00.000Z"
