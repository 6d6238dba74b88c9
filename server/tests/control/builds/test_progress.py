"""How far a stage has come."""

from __future__ import annotations

import pytest

from atolld.control.buildmachine import BaseLayers
from atolld.control.builds.progress import Progress, begin
from atolld.core.build import BaseKind
from atolld.core.defaults import GuestDefaults


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("/", "app", "/app"),
        ("/app", "src", "/app/src"),
        ("/app", "/opt", "/opt"),
        ("/app", "../..", "/"),
        ("/app", "../../../etc", "/etc"),
        ("/app", ".", "/app"),
        ("/", "//double", "/double"),
        ("/app", "a/./b/../c", "/app/a/c"),
    ],
)
def test_workdir(before: str, path: str, after: str) -> None:
    progress = Progress(workdir=before).with_workdir(path)
    assert progress.workdir == after
    assert progress.defaults.workdir == after


def test_variables_are_those_of_later_steps_and_of_the_sandboxes() -> None:
    progress = Progress(envs={"A": "1"}).with_envs({"B": "2"}).with_envs({"A": "3"})
    assert progress.envs == {"A": "3", "B": "2"} == progress.defaults.envs


def test_a_group_behind_the_user_is_left_out() -> None:
    progress = Progress().with_user("app:staff")
    assert (progress.user, progress.defaults.user) == ("app", "app")


@pytest.mark.parametrize(
    ("kind", "user", "workdir", "default_user", "default_workdir"),
    [
        (BaseKind.TEMPLATE, "root", "/", "user", None),
        (BaseKind.IMAGE, "user", "/", "user", None),
        (BaseKind.SCRATCH, "root", "/", "root", "/"),
    ],
)
def test_who_runs_the_first_step(
    kind: BaseKind, user: str, workdir: str, default_user: str, default_workdir: str | None
) -> None:
    base = BaseLayers(("a" * 64,), GuestDefaults(user="user", envs={"LANG": "C"}))
    progress = begin(kind, base)
    assert (progress.user, progress.workdir) == (user, workdir)
    assert (progress.defaults.user, progress.defaults.workdir) == (default_user, default_workdir)
    assert progress.layers == base.layers
