from __future__ import annotations

from collections.abc import Sequence

import pytest

from atolld.core.build import MAX_STEPS, Base, BaseKind, Copy, Env, Run, Step, User, Where, Workdir
from atolld.foundation.errors import InvalidArgument
from atolld.images.dockerfile import Inputs, plan_of_steps, shell_argv
from atolld.images.oci import Platform

NOWHERE = Where(0, 0, "")
BASE = Base(BaseKind.TEMPLATE, "base")


def inputs(**changes: object) -> Inputs:
    return Inputs(**{"platform": Platform("linux", "amd64"), **changes})  # type: ignore[arg-type]


def run(command: str) -> Run:
    return Run(NOWHERE, shell_argv(command))


def test_steps_are_numbered_and_named() -> None:
    steps: list[Step] = [
        run("apt-get update  &&\n apt-get install git"),
        Run(NOWHERE, ("pip", "install", "a b")),
        Copy(NOWHERE, ("src", "lib"), "/app/"),
        Env(NOWHERE, {"A": "b c"}),
        Workdir(NOWHERE, "/app"),
        Workdir(NOWHERE, None),
        User(NOWHERE, "me"),
        Run(Where(0, 0, "install numpy"), ("pip", "install", "numpy")),
    ]
    plan = plan_of_steps(BASE, steps, inputs(context="files", start_command="serve", ready_command="true", force=True))
    assert [(step.where.number, step.where.text) for step in plan.stages[0].steps] == [
        (1, "RUN apt-get update && apt-get install git"),
        (2, "RUN pip install 'a b'"),
        (3, "COPY src lib /app/"),
        (4, "ENV A='b c'"),
        (5, "WORKDIR /app"),
        (6, "WORKDIR /"),
        (7, "USER me"),
        (8, "install numpy"),
    ]
    copied = plan.stages[0].steps[2]
    assert isinstance(copied, Copy) and copied.origin == "files"
    assert (plan.start_command, plan.ready_command, plan.force) == ("serve", "true", True)
    assert plan.stages[0].where.text == "FROM base"


def test_images_that_are_copied_from_become_stages() -> None:
    copies = [Copy(NOWHERE, ("/a",), "/", origin=f"image:{name}") for name in ("debian:12", "alpine", "debian:12")]
    plan = plan_of_steps(BASE, copies, inputs())
    assert [stage.base for stage in plan.stages] == [
        Base(BaseKind.IMAGE, "debian:12"),
        Base(BaseKind.IMAGE, "alpine"),
        BASE,
    ]
    assert [step.origin for step in plan.stages[2].steps if isinstance(step, Copy)] == ["stage:0", "stage:1", "stage:0"]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([run("a")] * (MAX_STEPS + 1), "501 steps are too many"),
        ([run("a"), Run(NOWHERE, ())], "step 2 .*no command"),
        ([run("a\0b")], "NUL"),
        ([run("a" * 200_000)], "Linux does not take"),
        ([run("\ud800")], "not valid Unicode"),
        ([Copy(NOWHERE, ("a",), "/")], "none were uploaded"),
        ([Copy(NOWHERE, (), "/", origin="files")], "copies nothing"),
        ([Copy(NOWHERE, ("a",), "", origin="files")], "destination"),
        ([Copy(NOWHERE, ("a",), "/", origin="../files")], "not a name of uploaded files"),
        ([Copy(NOWHERE, ("a",), "/", origin="stage:0")], "not a name of uploaded files"),
        ([Copy(NOWHERE, ("a",), "/", origin="image:UPPER CASE")], "not a reference"),
        ([Copy(NOWHERE, ("a",) * 1001, "/", origin="files")], "more than 1000 sources"),
        ([Copy(NOWHERE, ("a",), "/", origin=f"image:i{n}") for n in range(64)], "63 are the most"),
        ([Env(NOWHERE, {"A B": "c"})], "not a variable name"),
        ([Env(NOWHERE, {"A": "c\0"})], "NUL"),
        ([Workdir(NOWHERE, "")], "working directory"),
        ([User(NOWHERE, " ")], "user is empty"),
    ],
)
def test_refused_steps(steps: Sequence[Step], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        plan_of_steps(BASE, steps, inputs())


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        (Base(BaseKind.STAGE, "0"), {}, "not with a stage"),
        (Base(BaseKind.IMAGE, "UPPER"), {}, "not a repository"),
        (Base(BaseKind.TEMPLATE, ""), {}, "names no template"),
        (BASE, {"args": {"A": "1"}}, "belong to a Dockerfile"),
        (BASE, {"target": "x"}, "belong to a Dockerfile"),
        (BASE, {"context": "a/b"}, "not a name of uploaded files"),
        (BASE, {"start_command": " "}, "start command"),
        (BASE, {"ready_command": "a\0"}, "NUL"),
    ],
)
def test_refused_inputs(base: Base, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        plan_of_steps(base, [run("true")], inputs(**changes))
