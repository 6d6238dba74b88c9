"""What the tests of Dockerfiles share."""

from __future__ import annotations

from collections.abc import Mapping

from atolld.core.build import Copy, Env, ImageConfig, Plan, Run, Step, User, Workdir
from atolld.images.dockerfile import Inputs, plan_of_dockerfile
from atolld.images.oci import Platform

FILES = "c0ffee"


def inputs(**changes: object) -> Inputs:
    """Of a build on an AMD64 machine with files."""
    return Inputs(**{"platform": Platform("linux", "amd64"), "context": FILES, **changes})  # type: ignore[arg-type]


def plan(text: str, **changes: object) -> Plan:
    """The plan of `text`."""
    return plan_of_dockerfile(text, inputs(**changes))


def bound(text: str, envs: Mapping[str, str] | None = None, **changes: object) -> tuple[tuple[Step, ...], ImageConfig]:
    """Steps and config of the last stage, over a base with `envs`."""
    return plan(text, **changes).stages[-1].bound({"PATH": "/bin"} if envs is None else envs, ImageConfig())


def only(body: str, envs: Mapping[str, str] | None = None, **changes: object) -> Step:
    """The one step of `body`, below a FROM."""
    steps, _ = bound(f"FROM debian\n{body}", envs, **changes)
    (step,) = steps
    return step


def said(step: Step) -> object:
    """The part of a step that a table compares."""
    match step:
        case Run():
            return step.argv[2] if step.argv[:2] == ("/bin/sh", "-c") and step.stdin is None else step.argv
        case Env():
            return dict(step.envs)
        case Workdir():
            return step.path
        case User():
            return step.user
        case Copy():
            return step.sources, step.destination
