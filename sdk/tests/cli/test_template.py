"""`atoll template`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_builds import BUILD, FAILURE, TEMPLATE, can_build
from sdk.tests.fake_daemon import FakeDaemon


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "Dockerfile").write_text("FROM debian\nRUN a\n")
    return tmp_path / "project"


def test_build(atoll: Atoll, daemon: FakeDaemon, project: Path) -> None:
    can_build(daemon)
    (project / "token").write_text("hunter2")
    outcome = atoll(
        *("template", "build", str(project), "--name", "app", "--tag", "stable", "--target", "x", "--arg", "A=1"),
        *("--secret", f"id=npm,src={project / 'token'}", "--start", "serve", "--ready", "true", "--cpu", "2"),
        *("--memory", "1024", "--disk", "2048", "--no-cache", "--public"),
    )
    assert (outcome.code, outcome.out, outcome.err) == (0, "app b1\n", "[builder 1/2] RUN a\nno rule\n")
    assert daemon.requests_to("/v1/templates")[0].json() == {
        "name": "app",
        "tags": ["stable"],
        "cpu": 2.0,
        "memory_mib": 1024,
        "disk_mib": 2048,
        "public": True,
    }
    assert daemon.requests_to("/builds/b1")[0].json() == {
        "dockerfile": "FROM debian\nRUN a\n",
        "target": "x",
        "args": {"A": "1"},
        "start_command": "serve",
        "ready_command": "true",
        "force": True,
        "secrets": {"npm": "hunter2"},
    }


def test_one_that_comes_with_the_daemon(atoll: Atoll, daemon: FakeDaemon) -> None:
    can_build(daemon)
    outcome = atoll("template", "builtin", "code-interpreter-v1", "--language", "r", "--language", "java")
    assert (outcome.code, outcome.out) == (0, "code-interpreter-v1 b1\n")
    assert daemon.requests_to("/builtin/code-interpreter-v1")[0].json() == {"languages": ["r", "java"]}


def test_build_for_programs(atoll: Atoll, daemon: FakeDaemon, project: Path) -> None:
    can_build(daemon)
    outcome = atoll("template", "build", "-f", str(project / "Dockerfile"), "--name", "app", "--json")
    assert (json.loads(outcome.out), outcome.err) == (BUILD, "")


def test_a_build_that_fails(atoll: Atoll, daemon: FakeDaemon, project: Path) -> None:
    can_build(daemon, {**BUILD, "state": "failed", "failure": FAILURE})
    outcome = atoll("template", "build", str(project), "--name", "app")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith("atoll: step 2, 'make', ended with exit code 2 [build_failed]\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give the directory"),
        (("{}/nothing",), "does not exist"),
        (("{}/empty",), "name the Dockerfile with --file"),
        (("{}/Dockerfile", "-f", "{}/Dockerfile"), "not a directory"),
        (("{}", "--arg", "A"), "NAME=VALUE"),
        (("{}", "--secret", "src=x"), "not of the form id=ID"),
        (("{}", "--secret", "id=NOT_THERE_AT_ALL"), "there is no variable"),
        (("{}", "--secret", "id=a,colour=b"), "not of the form id=ID"),
    ],
)
def test_wrong_use(atoll: Atoll, daemon: FakeDaemon, project: Path, arguments: tuple[str, ...], said: str) -> None:
    (project / "empty").mkdir()
    outcome = atoll("template", "build", "--name", "app", *(one.format(project) for one in arguments))
    assert outcome.code == 2 and said in " ".join(outcome.err.split())
    assert not daemon.seen


def test_secrets_of_variables(atoll: Atoll, daemon: FakeDaemon, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    can_build(daemon)
    monkeypatch.setenv("NPM_TOKEN", "hunter2")
    atoll("template", "build", str(project), "--name", "app", "--secret", "id=npm,env=NPM_TOKEN")
    assert daemon.requests_to("/builds/b1")[0].json()["secrets"] == {"npm": "hunter2"}


def test_lists(atoll: Atoll, daemon: FakeDaemon) -> None:
    machine = {**TEMPLATE, "name": "base", "machine": True, "tags": [], "build": None}
    failed = {**BUILD, "id": "b0", "state": "failed", "failure": FAILURE}
    daemon.machine |= {
        "/v1/templates": {"items": [machine, TEMPLATE], "next_cursor": None},
        "/v1/templates/app": TEMPLATE,
        "/v1/templates/app/builds": {"items": [BUILD, failed], "next_cursor": None},
        "/v1/templates/app/tags": {"items": TEMPLATE["tags"]},
    }
    listed = atoll("template", "list").out.splitlines()
    assert listed[1].split()[:4] == ["base", "t1", "machine", "-"]
    assert listed[2].split()[:4] == ["app", "t1", "private", "stable"]
    assert json.loads(atoll("template", "list", "--json").out)[1] == TEMPLATE
    assert "stable=b1" in atoll("template", "show", "app").out
    assert json.loads(atoll("template", "show", "app", "--json").out) == TEMPLATE
    rows = atoll("template", "versions", "app").out.splitlines()
    assert rows[1].split()[:3] == ["b1", "ready", "stable"]
    assert "ended with exit code 2" in rows[2]
    assert len(json.loads(atoll("template", "versions", "app", "--json").out)) == 2


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (("tag", "app", "a", "b"), "POST", "/v1/templates/app/tags", {"tags": ["a", "b"]}),
        (("tag", "app:stable", "a"), "POST", "/v1/templates/app/tags", {"tags": ["a"], "build": "stable"}),
        (("untag", "app", "a"), "DELETE", "/v1/templates/app/tags", {"tags": ["a"]}),
        (("publish", "app"), "PATCH", "/v1/templates/app", {"public": True}),
        (("unpublish", "app"), "PATCH", "/v1/templates/app", {"public": False}),
    ],
)
def test_changes(
    atoll: Atoll, daemon: FakeDaemon, arguments: tuple[str, ...], method: str, path: str, body: object
) -> None:
    daemon.answers[f"{method} {path}"] = [(200, {}, json.dumps(TEMPLATE).encode())]
    assert atoll("template", *arguments).code == 0
    assert (daemon.seen[-1].method, daemon.seen[-1].path, daemon.seen[-1].json()) == (method, path, body)


def test_delete(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.answers["DELETE /v1/templates/app"] = [(204, {}, b"")]
    outcome = atoll("template", "delete", "app", "gone")
    assert (outcome.code, outcome.err) == (1, "atoll: there is no template 'gone'\n")


def test_logs_and_cancel(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine |= {
        "/v1/templates/app/builds": {"items": [BUILD], "next_cursor": None},
        "/v1/templates/app/tags": {"items": TEMPLATE["tags"]},
    }
    can_build(daemon)
    daemon.answers["GET /v1/templates/t1/builds/b1/logs"] *= 2
    outcome = atoll("template", "logs", "-f", "app:stable")
    assert (outcome.code, outcome.out, outcome.err) == (0, "[builder 1/2] RUN a\nno rule\n", "")
    assert atoll("template", "cancel", "app").code == 0
    assert daemon.seen[-1].method == "DELETE"
    outcome = atoll("template", "logs", "app:nothing")
    assert outcome.code == 1 and "has no build" in outcome.err
