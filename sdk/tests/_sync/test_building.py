# Generated from `tests/_async/test_building.py` by `scripts/unasync.py`: change that, not this.
"""Images that are built where they are used, and templates that are built ahead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sdk.tests.fake_builds import BUILD, FAILURE, LOG, STEP_ERROR, TEMPLATE, can_build, can_make_images, lines
from sdk.tests.fake_daemon import FakeDaemon

from atoll import Daemon, Sandbox, BuildError, BuildLog, Config, ConnectionFailed, Image, InvalidArgument
from atoll._context import read_context


def test_a_sandbox_of_an_image(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("print('a')")
    can_make_images(daemon, {"template": "image-1", "build": BUILD})
    image = Image.debian().run("a").copy(tmp_path / "src", "/app")
    told: list[BuildLog] = []
    daemon.answers |= {
        f"{verb} /v1/build-files/{name}": [(200, {}, b'{"present": false}')]
        for verb in ("GET", "PUT")
        for name in [read_context(tmp_path / "src").name]
    }
    sandbox = Sandbox.create(image=image, memory_mib=1024, on_build=told.append, config=config)
    assert daemon.sandboxes[sandbox.id]["template"] == "image-1"
    assert [entry.message for entry in told] == ["[builder 1/2] RUN a"]
    (asked,) = daemon.requests_to("/v1/images/build")
    body = asked.json()
    assert body["base"] == {"template": "base"} and body["memory_mib"] == 1024
    assert body["steps"][0] == {"text": "run('a')", "run": "a", "network": True}
    assert body["steps"][1]["copy"] == ["."] and body["steps"][1]["to"] == "/app"
    (sent,) = [seen for seen in daemon.seen if "/v1/build-files/" in seen.path and seen.body]
    assert sent.path.endswith(body["steps"][1]["files"]) and sent.body[:2] == b"\x1f\x8b"


def test_files_that_are_there_are_not_sent(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    name = read_context(tmp_path).name
    daemon.machine[f"/v1/build-files/{name}"] = {"present": True}
    can_make_images(daemon, {"template": "image-1"})
    Sandbox.create(image=Image.base().copy(tmp_path, "/"), config=config)
    assert not [seen for seen in daemon.seen if "/v1/build-files/" in seen.path and seen.body]


def test_a_step_that_fails_names_the_line_that_asked_for_it(daemon: FakeDaemon, config: Config) -> None:
    can_make_images(daemon, STEP_ERROR)
    image = Image.base().run("a")
    image = image.run("make")  # this very line
    with pytest.raises(BuildError) as caught:
        Sandbox.create(image=image, config=config)
    error = caught.value
    assert error.where is not None and error.where.startswith(__file__)
    line = int(error.where.rpartition(":")[2])
    assert "this very line" in Path(__file__).read_text().splitlines()[line - 1]
    assert (error.step, error.exit_code, error.last_lines) == ("2", 2, ("no rule",))
    assert error.message == f"{error.where}: .run('make') ended with 2\n  no rule"


@pytest.mark.parametrize(
    ("last", "kind", "said"),
    [
        ({"error": {"code": "capacity", "message": "the disk is full"}}, Exception, "the disk is full"),
        ({"error": {"code": "not_found", "message": "no", "details": {"step": "base"}}}, BuildError, "no"),
        ({"log": LOG[1]}, ConnectionFailed, "the connection broke"),
    ],
)
def test_other_ends(daemon: FakeDaemon, config: Config, last: object, kind: type[Exception], said: str) -> None:
    can_make_images(daemon, last)
    with pytest.raises(kind, match=said):
        Sandbox.create(image=Image.base().run("a"), config=config)
    assert not daemon.sandboxes


def test_steps_after_a_dockerfile(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN a\n")
    can_make_images(daemon, {"template": "image-1"}, {"template": "image-2"})
    image = Image.dockerfile(tmp_path / "Dockerfile", args={"A": "1"}).run("b")
    sandbox = Sandbox.create(image=image, config=config)
    assert daemon.sandboxes[sandbox.id]["template"] == "image-2"
    first, second = (seen.json() for seen in daemon.requests_to("/v1/images/build"))
    assert first == {"dockerfile": "FROM debian\nRUN a\n", "args": {"A": "1"}}
    assert second["base"] == {"template": "image-1"}


def test_a_template_or_an_image(config: Config) -> None:
    with pytest.raises(InvalidArgument, match="give one of them"):
        Sandbox.create(template="app", image=Image.base(), config=config)


def test_a_template_is_built(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN a\n")
    can_build(daemon)
    told: list[BuildLog] = []
    built = Daemon(config).templates.build(
        "app",
        tmp_path,
        tags=["stable"],
        cpu=2,
        start_command="serve",
        ready_command="true",
        public=True,
        force=True,
        secrets={"npm": "hunter2"},
        login=("me", "token"),
        on_log=told.append,
    )
    assert (built.id, built.state, built.size_bytes) == ("b1", "ready", 3 * 1024 * 1024)
    assert [entry.level for entry in told] == ["info", "error"]
    assert daemon.requests_to("/v1/templates")[0].json() == {
        "name": "app",
        "tags": ["stable"],
        "cpu": 2,
        "public": True,
    }
    assert daemon.requests_to("/builds/b1")[0].json() == {
        "dockerfile": "FROM debian\nRUN a\n",
        "start_command": "serve",
        "ready_command": "true",
        "force": True,
        "secrets": {"npm": "hunter2"},
        "registry": {"username": "me", "password": "token"},
    }


def test_a_template_that_fails(daemon: FakeDaemon, config: Config) -> None:
    can_build(daemon, {**BUILD, "state": "failed", "failure": FAILURE})
    with pytest.raises(BuildError, match=r"test_building.py:\d+: \.run\('make'\) ended with 2\n  no rule"):
        Daemon(config).templates.build("app", Image.base().run("a", "make"))


def test_a_template_that_comes_with_the_daemon(daemon: FakeDaemon, config: Config) -> None:
    can_build(daemon)
    told: list[BuildLog] = []
    built = Daemon(config).templates.build_builtin(languages=["r"], on_log=told.append)
    assert (built.id, built.state, len(told)) == ("b1", "ready", len(LOG))
    assert daemon.requests_to("/builtin/code-interpreter-v1")[0].json() == {"languages": ["r"]}


def test_one_that_fails(daemon: FakeDaemon, config: Config) -> None:
    can_build(daemon, {**BUILD, "state": "failed", "failure": FAILURE})
    with pytest.raises(BuildError, match="exit code 2"):
        Daemon(config).templates.build_builtin()


def test_a_build_goes_on_beside(daemon: FakeDaemon, config: Config) -> None:
    can_build(daemon, {**BUILD, "state": "failed", "failure": FAILURE})
    templates = Daemon(config).templates
    started = templates.build("app", Image.base().run("a"), wait=False)
    assert started.state == "building"
    with pytest.raises(BuildError) as caught:
        templates.wait(started.template_id, started.id)
    assert (caught.value.step, caught.value.where, caught.value.last_lines) == ("2", None, ("no rule",))
    templates.cancel("t1", "b1")


class Interrupted(BaseException):
    """Stands for a Ctrl-C."""


def test_an_interrupted_build_is_cancelled(daemon: FakeDaemon, config: Config) -> None:
    can_build(daemon)

    def interrupt(entry: BuildLog) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        Daemon(config).templates.build("app", Image.base().run("a"), on_log=interrupt)
    assert daemon.answers["DELETE /v1/templates/t1/builds/b1"] == []


def test_templates_are_listed_and_changed(daemon: FakeDaemon, config: Config) -> None:
    templates = Daemon(config).templates
    page = {"items": [TEMPLATE], "next_cursor": "more"}
    last = {"items": [{**TEMPLATE, "name": "b", "build": None}], "next_cursor": None}
    daemon.answers["GET /v1/templates"] = [(200, {}, json.dumps(one).encode()) for one in (page, last)]
    found = templates.list()
    assert [(one.name, one.tags) for one in found] == [("app", {"stable": "b1"}), ("b", {"stable": "b1"})]
    assert daemon.seen[-1].params == {"limit": "100", "cursor": "more"}
    daemon.machine |= {
        "/v1/templates/app": TEMPLATE,
        "/v1/templates/app/builds": {"items": [BUILD], "next_cursor": None},
        "/v1/templates/app/tags": {"items": TEMPLATE["tags"]},
    }
    one = templates.get("app")
    assert one.build is not None and one.build.id == "b1"
    assert [build.id for build in templates.versions("app")] == ["b1"]
    assert templates.tags("app") == {"stable": "b1"}
    templates.tag("app", "a", "b", build="stable")
    assert daemon.seen[-1].json() == {"tags": ["a", "b"], "build": "stable"}
    templates.untag("app", "a")
    assert (daemon.seen[-1].method, daemon.seen[-1].json()) == ("DELETE", {"tags": ["a"]})
    templates.publish("app")
    assert (daemon.seen[-1].method, daemon.seen[-1].json()) == ("PATCH", {"public": True})
    templates.unpublish("app")
    assert daemon.seen[-1].json() == {"public": False}
    daemon.answers["DELETE /v1/templates/app"] = [(204, {}, b"")]
    assert templates.delete("app")
    assert not templates.delete("gone")


def test_logs(daemon: FakeDaemon, config: Config) -> None:
    daemon.answers["GET /v1/templates/t1/builds/b1/logs"] = [(200, {}, lines(*LOG))]
    found = [entry for entry in Daemon(config).templates.logs("t1", "b1", offset=3, follow=True)]
    assert [entry.message for entry in found] == ["[builder 1/2] RUN a", "no rule"]
    assert daemon.seen[-1].params == {"offset": "3", "follow": "true"}
