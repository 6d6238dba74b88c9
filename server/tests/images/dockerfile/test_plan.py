"""Stages, their order, what is left out, and what they begin with."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from atolld.core.build import Base, BaseKind, Copy, ImageConfig, Run
from atolld.foundation.errors import InvalidArgument

from .reading import FILES, bound, plan, said

STAGES = """\
ARG VERSION=12
FROM --platform=$TARGETPLATFORM debian:${VERSION} AS Build
RUN make
FROM alpine AS unused
RUN nothing
FROM build AS test
RUN test
FROM scratch
COPY --from=build /out /
COPY --from=1 /x /
COPY --from=docker.io/library/busybox:1 /bin/sh /bin/
COPY --from=template://base /etc/passwd /etc/
COPY local /
"""


def test_stages_that_are_needed() -> None:
    made = plan(STAGES)
    assert [(stage.base.kind, stage.base.name, stage.name) for stage in made.stages] == [
        (BaseKind.IMAGE, "debian:12", "build"),
        (BaseKind.IMAGE, "alpine", "unused"),
        (BaseKind.IMAGE, "docker.io/library/busybox:1", ""),
        (BaseKind.TEMPLATE, "base", ""),
        (BaseKind.SCRATCH, "", ""),
    ]
    copies = [step for step in made.stages[-1].steps if isinstance(step, Copy)]
    assert [step.origin for step in copies] == ["stage:0", "stage:1", "stage:2", "stage:3", FILES]
    assert [step.where.number for stage in made.stages for step in stage.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert (made.stages[0].where.line, made.stages[0].where.text) == (
        2,
        "FROM --platform=$TARGETPLATFORM debian:${VERSION} AS Build",
    )


@pytest.mark.parametrize(
    ("target", "bases"),
    [
        ("build", [Base(BaseKind.IMAGE, "debian:12")]),
        ("BUILD", [Base(BaseKind.IMAGE, "debian:12")]),
        ("0", [Base(BaseKind.IMAGE, "debian:12")]),
        ("unused", [Base(BaseKind.IMAGE, "alpine")]),
        ("test", [Base(BaseKind.IMAGE, "debian:12"), Base(BaseKind.STAGE, "0")]),
    ],
)
def test_targets(target: str, bases: list[Base]) -> None:
    assert [stage.base for stage in plan(STAGES, target=target).stages] == bases


def test_global_arguments() -> None:
    made = plan(STAGES, args={"VERSION": "13"})
    assert made.stages[0].base.name == "debian:13"


def test_the_base_settles_variables_and_config() -> None:
    text = (
        'FROM node\nENV PATH=/opt/bin:$PATH\nWORKDIR $HOME/app\nRUN build\nSHELL ["/bin/bash", "-c"]\nRUN more\nCMD go'
    )
    (env, workdir, first, second), config = bound(text, {"PATH": "/usr/bin", "HOME": "/root"})
    assert said(env) == {"PATH": "/opt/bin:/usr/bin"}
    assert said(workdir) == "/root/app"
    assert said(first) == "build"
    assert isinstance(second, Run) and second.argv == ("/bin/bash", "-c", "more")
    assert config == ImageConfig(cmd=("/bin/bash", "-c", "go"), shell=("/bin/bash", "-c"))  # noqa: S604 - no call of a shell
    provisional = plan(text).stages[-1].steps
    assert said(provisional[0]) == {"PATH": "/opt/bin:$PATH"}
    assert [type(step) for step in provisional] == [type(step) for step in (env, workdir, first, second)]


def test_a_base_without_a_path_has_the_usual_one() -> None:
    (env,), _ = bound("FROM scratch\nENV PATH=/opt/bin:$PATH", {})
    assert said(env) == {"PATH": "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def test_config_is_inherited_from_the_base() -> None:
    made = plan("FROM nginx\nLABEL a=1\nEXPOSE 80").stages[-1]
    base = ImageConfig(cmd=("nginx",), entrypoint=("/entry",), labels={"b": "2"})
    _, config = made.bound({}, base)
    assert config == replace(base, labels={"a": "1", "b": "2"}, exposed=("80/tcp",))
    _, config = plan('FROM nginx\nENTRYPOINT ["x"]').stages[-1].bound({}, base)
    assert (config.cmd, config.entrypoint) == ((), ("x",))
    _, config = plan('FROM nginx\nCMD ["y"]\nENTRYPOINT ["x"]').stages[-1].bound({}, base)
    assert (config.cmd, config.entrypoint) == (("y",), ("x",))


def test_plans_can_be_compared_and_written_down() -> None:
    assert plan(STAGES) == plan(STAGES)
    json.dumps(asdict(plan(STAGES)))


def test_commands_of_templates_are_taken_over() -> None:
    made = plan("FROM a", start_command="serve", ready_command="curl x", force=True)
    assert (made.start_command, made.ready_command, made.force) == ("serve", "curl x", True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no FROM"),
        ("# only a comment\n", "no FROM"),
        ("RUN a\nFROM b", "line 1: RUN: a Dockerfile begins with FROM"),
        ("FROM", "line 1: FROM: it is FROM <image>"),
        ("FROM a b", "it is FROM <image>"),
        ("FROM a AS", "it is FROM <image>"),
        ("FROM a AS 7", "cannot name a stage"),
        ("FROM a AS scratch", "cannot name a stage"),
        ("FROM a AS b\nFROM c AS B", "line 2: FROM: there is a stage 'b' already"),
        ("FROM UPPER", "line 1: FROM: .*not a repository"),
        ("FROM $NOTHING", "an ARG before the first FROM has no value"),
        ("FROM ${", "missing '}'"),
        ("FROM template://", "followed by the name"),
        ("FROM --platform=linux/arm64 a", "this machine builds for linux/amd64 only"),
        ("FROM --platform=windows a", "this machine builds for linux/amd64 only"),
        ("FROM --pull a", "no flag '--pull': there is --platform"),
        ("FROM a\nCOPY --from=b /x /\nFROM c AS b", "line 2: COPY: .*move it up"),
        ("FROM a AS b\nCOPY --from=b /x /", "move it up"),
        ("FROM a\nCOPY --from=7 /x /", "there are 1 stages, counted from 0"),
        ("FROM a\nCOPY --from=UPPER/x: /x /", "line 2: COPY: .*not a reference"),
        ("FROM a\nCOPY --from=$x /x /", "takes no variables"),
        ("FROM a\nCOPY --from= /x /", "has no value"),
        ("FROM a\nWHAT b", "line 2.*unknown instruction"),
        ("FROM a\nONBUILD RUN b", "line 2: ONBUILD: .*not supported"),
        ("FROM a\n" * 65, "more than 64 stages"),
        ("FROM a\n" + "RUN b\n" * 501, "line 502: RUN: there are more than 500 steps"),
        ("FROM a\n" + "LABEL b=c\n" * 2000, "instructions are too many"),
    ],
)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        plan(text)


def test_unknown_targets() -> None:
    with pytest.raises(InvalidArgument, match="no stage 'prod': there are build, unused, test"):
        plan(STAGES, target="prod")


def test_platforms_of_this_machine() -> None:
    for name in ("linux/amd64", "amd64", "linux", "linux/x86_64", "${BUILDPLATFORM}", "linux/amd64/v1"):
        assert plan(f"FROM --platform={name} a").stages[0].base.name == "a"


def test_where_is_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan("FROM a\n\n# comment\nRUN --network=host x")
    assert caught.value.details == {"line": 4, "instruction": "RUN"}
