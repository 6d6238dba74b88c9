from __future__ import annotations

from typing import Any

import pytest

from atolld.api.e2b.buildrequests import StartBuild
from atolld.api.e2b.plans import Ground, image_ground, plan_of, template_named
from atolld.core.build import Base, BaseKind, Env, ImageConfig, Run, User, Workdir
from atolld.foundation.errors import InvalidArgument

BASE = Ground(Base(BaseKind.TEMPLATE, "base"), "FROM e2bdev/base", own=True)
MINE = Ground(
    Base(BaseKind.TEMPLATE, "mine"), "FROM TEMPLATE mine", workdir="/app", start_command="serve", ready_command="true"
)
RUN = [{"type": "RUN", "args": ["make"]}]


def plan(ground: Ground, **body: Any) -> Any:
    return plan_of(StartBuild(**body), ground)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"fromTemplate": "mine:v1"}, "mine:v1"),
        ({"fromImage": "e2bdev/base"}, "base"),
        ({"fromImage": " e2bdev/base:latest"}, "base"),
        ({"fromImage": "e2bdev/code-interpreter:latest"}, "code-interpreter-v1"),
        ({"fromImage": "e2bdev/base:v2"}, None),
        ({"fromImage": "docker.io/e2bdev/base"}, None),
        ({"fromImage": "debian:12"}, None),
        ({"fromImage": "debian:12", "fromTemplate": ""}, None),
    ],
)
def test_what_a_build_is_from(body: dict[str, Any], named: str | None) -> None:
    assert template_named(StartBuild(**body)) == named


@pytest.mark.parametrize("body", [{}, {"fromImage": ""}, {"fromImage": "debian", "fromTemplate": "mine"}])
def test_a_build_from_nothing_or_from_two_things(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="exactly one of fromImage and fromTemplate must be given"):
        template_named(StartBuild(**body))


@pytest.mark.parametrize("reference", ["Debian", "debian:", "https://example.com/x", "a b", "../x", "x" * 600])
def test_what_is_no_image(reference: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a reference to an image"):
        image_ground(reference)


def test_over_the_machines_own_template() -> None:
    made = plan(BASE, fromImage="e2bdev/base", steps=RUN)
    (stage,) = made.stages
    user, run, end = stage.steps
    assert stage.base == Base(BaseKind.TEMPLATE, "base") and stage.where.text == "FROM e2bdev/base"
    assert isinstance(user, User) and user.user == "user" and user.where.step == "base"
    assert isinstance(run, Run) and run.user is None and run.where.step == "1"
    assert isinstance(end, Run) and end.user == "root" and end.where.step == "finalize"
    assert (made.start_command, made.ready_command, made.force) == (None, None, False)


def test_over_an_image() -> None:
    made = plan(image_ground("debian:12"), fromImage="debian:12", steps=RUN, force=True)
    (stage,) = made.stages
    prepare, user, directory, run, end = stage.steps
    assert stage.base == Base(BaseKind.IMAGE, "debian:12") and stage.where.text == "FROM debian:12"
    assert isinstance(prepare, Run) and prepare.user == "root" and prepare.where.step == "base"
    assert isinstance(user, User) and isinstance(directory, Workdir) and directory.path is None
    assert made.force and run.force and end.force


def test_over_a_template_of_the_project() -> None:
    made = plan(MINE, fromTemplate="mine", steps=RUN)
    prepare, user, directory, run, _ = made.stages[0].steps
    assert isinstance(prepare, Run) and isinstance(user, User)
    assert isinstance(directory, Workdir) and directory.path == "/app"
    # It goes on in the directory of the template, and with what that one starts.
    assert run.argv == ("/bin/bash", "-l", "-c", "make")
    assert (made.start_command, made.ready_command) == ("serve", "true")


@pytest.mark.parametrize(
    ("body", "commands"),
    [
        ({"startCmd": "a", "readyCmd": "b"}, ("a", "b")),
        ({"startCmd": "a"}, ("a", None)),
        ({"readyCmd": "b"}, (None, "b")),
        ({"startCmd": "", "readyCmd": ""}, ("serve", "true")),
    ],
)
def test_commands_replace_those_of_the_template(body: dict[str, str], commands: tuple[str | None, str | None]) -> None:
    made = plan(MINE, fromTemplate="mine", **body)
    assert (made.start_command, made.ready_command) == commands


@pytest.mark.parametrize("command", ["a\0b", "x" * 200_000])
def test_a_command_that_cannot_be_run(command: str) -> None:
    with pytest.raises(InvalidArgument, match="readyCmd holds a NUL byte, or has more than"):
        plan(BASE, fromImage="e2bdev/base", startCmd="true", readyCmd=command)


def test_the_steps_are_bound_to_the_variables_of_the_base() -> None:
    made = plan(BASE, fromImage="e2bdev/base", steps=[{"type": "ENV", "args": ["PATH", "/x:$PATH"]}, *RUN])
    stage, config = made.stages[0], ImageConfig(cmd=("sh",))
    steps, after = stage.bound({"PATH": "/usr/bin"}, config)
    assert after is config and [type(step) for step in steps] == [type(step) for step in stage.steps]
    assert isinstance(steps[1], Env) and steps[1].envs == {"PATH": "/x:/usr/bin"}


def test_a_forced_step_forces_the_end() -> None:
    made = plan(BASE, fromImage="e2bdev/base", steps=[*RUN, {**RUN[0], "force": True}, *RUN])
    assert [step.force for step in made.stages[0].steps if isinstance(step, Run)] == [False, True, True, True]
