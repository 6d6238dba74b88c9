from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from atolld.api.native.build_schemas import BuildImage, BuildView, CreateTemplate, StartBuild
from atolld.core.build import BuildSpec, BuildState, Built, Copy, Failure, ImageConfig, Run, SecretMount
from atolld.core.defaults import GuestDefaults
from atolld.core.template import Build
from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import BuildId, ProjectId, TemplateId

STEPS = {"base": {"template": "base"}}


def test_steps_become_a_plan() -> None:
    body = StartBuild.model_validate(
        {
            "base": {"image": "debian:12"},
            "context": "c0ffee",
            "steps": [
                {"run": "make", "user": "me", "secrets": [{"id": "token", "env": "TOKEN"}], "network": False},
                {"run": ["pip", "install", "x"], "force": True, "text": "pip x"},
                {"copy": ["src"], "to": "/app/", "owner": "me:me", "mode": "0755", "exclude": ["*.o"]},
                {"copy": ["/bin/tool"], "to": "/bin/", "from_image": "alpine"},
            ],
        }
    )
    plan = body.to_plan()
    first, second, third, fourth = plan.stages[-1].steps
    assert isinstance(first, Run) and first.argv == ("/bin/sh", "-c", "make") and first.user == "me"
    assert first.secrets == (SecretMount("token", None, "TOKEN", True),) and not first.network
    assert isinstance(second, Run) and second.argv == ("pip", "install", "x") and second.force
    assert second.where.text == "pip x"
    assert isinstance(third, Copy) and (third.origin, third.owner, third.mode) == ("c0ffee", "me:me", 0o755)
    assert isinstance(fourth, Copy) and fourth.origin == "stage:0"


@pytest.mark.parametrize(
    "body",
    [
        {"unknown": 1},
        {**STEPS, "steps": [{"what": 1}]},
        {**STEPS, "steps": [7]},
        {**STEPS, "steps": [{"run": "a", "copy": ["b"], "to": "c"}]},
        {**STEPS, "steps": [{"run": 7}]},
        {**STEPS, "steps": [{"copy": [], "to": "/"}]},
        {**STEPS, "steps": [{"copy": ["a"], "to": "/", "mode": "rwx"}]},
        {**STEPS, "force": "yes"},
        {**STEPS, "dockerfile": "x" * (1024 * 1024 + 1)},
    ],
)
def test_bodies_of_a_wrong_form(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StartBuild.model_validate(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "nothing to build"),
        ({**STEPS, "dockerfile": "FROM a"}, "not both"),
        ({"base": {}}, "exactly one"),
        ({"base": {"image": "a", "scratch": True}}, "exactly one"),
        ({**STEPS, "steps": [{"copy": ["a"], "to": "/", "files": "x", "from_image": "y"}]}, "not both"),
    ],
)
def test_bodies_without_a_plan(body: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        StartBuild.model_validate(body).to_plan()


def test_secrets_do_not_show() -> None:
    body = BuildImage.model_validate({**STEPS, "secrets": {"token": "hunter2"}, "memory_mib": 1024})
    assert "hunter2" not in repr(body) and "hunter2" not in body.model_dump_json()
    assert body.secret_values() == {"token": "hunter2"}
    assert body.to_spec().resources.memory_mib == 1024
    with pytest.raises(InvalidArgument):
        StartBuild.model_validate({"secrets": {"token": "a\0"}}).secret_values()


def test_bounds_are_checked() -> None:
    assert CreateTemplate.model_validate({"name": "a"}).to_spec() == BuildSpec()
    with pytest.raises(InvalidArgument, match="memory_mib"):
        CreateTemplate.model_validate({"name": "a", "memory_mib": 1}).to_spec()


def test_a_build_is_shown() -> None:
    failed = Build(
        BuildId("b"),
        TemplateId("t"),
        ProjectId("p"),
        BuildState.FAILED,
        BuildSpec(),
        created_at=0.0,
        finished_at=1.0,
        failure=Failure("no", "3", 2, ("last",)),
    )
    view = BuildView.of(failed)
    assert view.failure is not None and view.failure.model_dump() == {
        "message": "no",
        "step": "3",
        "exit_code": 2,
        "last_lines": ["last"],
    }
    assert (view.size_bytes, view.layers, view.user) == (None, [], None)
    ready = Build(
        BuildId("b"),
        TemplateId("t"),
        ProjectId("p"),
        BuildState.READY,
        BuildSpec(),
        created_at=0.0,
        built=Built(("x",), GuestDefaults("me", "/app", {"A": "1"}), ImageConfig(), 5),
    )
    view = BuildView.of(ready)
    assert (view.size_bytes, view.layers, view.user, view.workdir, view.envs) == (5, ["x"], "me", "/app", {"A": "1"})
