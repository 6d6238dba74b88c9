"""Builds as users meet them: Dockerfiles, the cache, failures, secrets, and images in code."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import AtollError, BuildError, BuildInfo, BuildLog, Daemon, Image, InvalidArgument, NotFound, Sandbox
from e2e.conftest import Daemon as Served
from e2e.conftest import make_daemon

CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))
SECRET = "hunter2-e2e-secret-value"

# What the templates say of the machine: no registry is needed.
DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG GREETING=hello
FROM template://base AS build
ARG GREETING
WORKDIR /src
COPY --chmod=0755 app.sh lib/ ./
RUN <<EOF
set -e
echo "$GREETING from $(id -un)" > out.txt
cat app.sh lib.txt >> out.txt
EOF
RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x && test ! -e /scratch/y

FROM template://base
ENV APP=/opt/app PATH=/opt/app:$PATH
WORKDIR $APP
COPY --from=build --chown=user:user /src/out.txt /src/app.sh ./
COPY <<'EOF' /opt/app/config
a=$b
EOF
USER user
RUN echo last > /tmp/last-$(id -un)
LABEL kind=test
CMD ["app.sh"]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with a cache of its own, in which `base` is the machine's."""
    base = tmp_path_factory.mktemp("atoll-builds")
    cache = base / "cache"
    cache.mkdir()
    subprocess.run(["cp", "-al", CACHE / "layers", CACHE / "templates", cache], check=True)
    for pins in cache.glob("layers/*/pins"):
        shutil.rmtree(pins)
    if (CACHE / "bin").is_dir():
        shutil.copytree(CACHE / "bin", cache / "bin", symlinks=True)
    try:
        yield from make_daemon(base, ATOLL_CACHE_DIR=str(cache))
    finally:
        shutil.rmtree(cache)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "lib").mkdir(parents=True)
    (root / "app.sh").write_text("#!/bin/sh\necho run\n")
    (root / "lib" / "lib.txt").write_text("library\n")
    (root / "lib" / "ignored.log").write_text("log\n")
    (root / ".dockerignore").write_text("**/*.log\n")
    (root / "Dockerfile").write_text(DOCKERFILE)
    return root


_TAKES_NO_TIME = re.compile(r"\] (?:ENV|USER|env|user|WORKDIR|workdir)\b")


class Log(list[str]):
    """The messages of one build."""

    def __call__(self, entry: BuildLog) -> None:
        self.append(entry.message)

    def cached(self) -> int:
        return sum(line.startswith("CACHED ") for line in self)

    def run(self) -> list[str]:
        """The steps that were run, as they are shown."""
        return [line for line in self if line.startswith("[builder ") and _TAKES_NO_TIME.search(line) is None]


def build(served: Served, project: Path, name: str, **options: object) -> tuple[BuildInfo, Log]:
    log = Log()
    built = Daemon(served.config).templates.build(name, project, on_log=log, **options)  # type: ignore[arg-type]
    return built, log


@pytest.mark.real
def test_a_dockerfile_of_two_stages(served: Served, project: Path) -> None:
    built, log = build(served, project, "app", tags=["default", "stable"])
    assert built.state == "ready" and built.raw["envs"]["APP"] == "/opt/app"
    with Sandbox.create(template="app", config=served.config) as sandbox:
        assert sandbox.run("cat out.txt", check=True).stdout == "hello from root\n#!/bin/sh\necho run\nlibrary\n"
        assert sandbox.run("pwd; id -un; cat config; echo $PATH").stdout.splitlines()[:3] == [
            "/opt/app",
            "user",
            "a=$b",
        ]
        assert sandbox.run("app.sh").stdout == "run\n"
        assert sandbox.run("stat -c %U /opt/app/out.txt").stdout == "user\n"
        assert sandbox.run("ls /src /scratch").exit_code != 0
        assert sandbox.run("cat /tmp/last-user").stdout == "last\n"
    with Sandbox.create(template="app:stable", config=served.config) as sandbox:
        assert sandbox.run("cat config").stdout == "a=$b\n"

    # Nothing changed: every step is there, no sandbox is started, and it takes next to no time.
    before = served.settle()
    begun = time.monotonic()
    again, log = build(served, project, "app")
    took_s = time.monotonic() - begun
    assert log.run() == [] and log.cached() >= 6, log
    steps = len(again.raw["layers"]) + 8
    print(f"a build with nothing changed: {took_s * 1000:.0f} ms for {steps} steps")
    assert took_s < 0.3 + 0.005 * steps
    assert again.raw["layers"] == built.raw["layers"]
    assert not served.settle().more_than(before)

    # The last step changed: it alone is run.
    text = DOCKERFILE.replace("echo last", "echo changed")
    (project / "Dockerfile").write_text(text)
    changed, log = build(served, project, "app")
    assert len(log.run()) == 1 and "echo changed" in log.run()[0], log
    assert changed.raw["layers"][:-1] == built.raw["layers"][:-1]

    # A build argument is no part of what is built, but steps that see it run anew.
    image = Image.dockerfile(project / "Dockerfile", args={"GREETING": "hi"})
    Daemon(served.config).templates.build("greeting", image)
    with Sandbox.create(template="greeting", config=served.config) as sandbox:
        assert sandbox.run("head -1 out.txt").stdout == "hi from root\n"
        assert "GREETING" not in sandbox.run("env").stdout

    versions = Daemon(served.config).templates.versions("app")
    assert len(versions) == 3 and all(one.state == "ready" for one in versions)


@pytest.mark.real
def test_a_step_that_fails_names_itself(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM template://base\nRUN true\n\nRUN echo before; echo gone >&2; exit 7\n")
    before = served.settle()
    with pytest.raises(BuildError) as caught:
        build(served, project, "failing")
    error = caught.value
    assert (error.step, error.exit_code) == ("2", 7)
    assert {"before", "gone"} <= set(error.last_lines)
    assert "line 4" in error.message and "exit code 7" in error.message
    assert not served.settle().more_than(before)
    with pytest.raises(AtollError):
        Sandbox.create(template="failing", config=served.config)


@pytest.mark.real
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM template://base\nRUN --network=host x\n", "line 2: RUN: .*never sees the host's network"),
        ("FROM template://base\nCOPY nothing /\n", "nothing"),
        ("FROM template://no-such-template\nRUN a\n", "no-such-template"),
        ("FROM template://base\nUSER nobody-here\nRUN a\n", "nobody-here"),
    ],
)
def test_dockerfiles_that_cannot_be_built(served: Served, project: Path, text: str, said: str) -> None:
    (project / "Dockerfile").write_text(text)
    with pytest.raises((BuildError, InvalidArgument, NotFound), match=said):
        build(served, project, "impossible")


@pytest.mark.real
def test_secrets_are_in_no_layer(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text(
        "FROM template://base\n"
        "RUN --mount=type=secret,id=token,required=true sha256sum /run/secrets/token | cut -c1-8 > /digest\n"
        "RUN --mount=type=secret,id=token,env=TOKEN sh -c 'echo ${#TOKEN} > /length; echo says $TOKEN'\n"
    )
    with pytest.raises(BuildError, match="token"):
        build(served, project, "secret")
    built, log = build(served, project, "secret", secrets={"token": SECRET})
    assert not any(SECRET in line for line in log) and any("says ***" in line for line in log)
    with Sandbox.create(template="secret", config=served.config) as sandbox:
        assert sandbox.run("cat /length").stdout.strip() == str(len(SECRET))
        assert sandbox.run("ls /run/secrets").exit_code != 0
    cache = Path(served.settings["ATOLL_CACHE_DIR"])
    for layer in built.raw["layers"][-2:]:
        found = subprocess.run(["grep", "-rlF", SECRET, str(cache / "layers" / layer)], capture_output=True, text=True)
        assert found.stdout == ""
    state = subprocess.run(["grep", "-rlF", SECRET, str(served.state_dir)], capture_output=True, text=True)
    assert state.stdout == ""


@pytest.mark.real
def test_two_identical_builds_share_one_run(served: Served, project: Path) -> None:
    mark = f"{time.time_ns()}"
    (project / "Dockerfile").write_text(
        f"FROM template://base\nRUN echo {mark}; sleep 2; head -c 16 /dev/urandom > /mark\n"
    )
    logs: list[tuple[BuildInfo, Log]] = []
    threads = [
        threading.Thread(target=lambda name=name: logs.append(build(served, project, name))) for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(logs) == 2
    assert logs[0][0].raw["layers"] == logs[1][0].raw["layers"]
    # Both see what the one run says.
    assert all(mark in log for _, log in logs)


@pytest.mark.real
def test_a_build_that_is_cancelled_leaves_nothing(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM template://base\nRUN echo begun; sleep 600\n")
    before = served.settle()
    templates = Daemon(served.config).templates
    started = templates.build("slow", project, wait=False)
    for entry in templates.logs(started.template_id, started.id, follow=True):
        if entry.message == "begun":
            break
    templates.cancel(started.template_id, started.id)
    assert templates.build_info(started.template_id, started.id).state == "failed"
    assert not served.settle().more_than(before)


@pytest.mark.real
def test_a_build_of_a_killed_daemon_leaves_nothing(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text(
        f"FROM template://base\nRUN echo {time.time_ns()} > /first\nRUN echo begun; sleep 600\n"
    )
    before = served.settle()
    templates = Daemon(served.config).templates
    started = templates.build("killed", project, wait=False)
    for entry in templates.logs(started.template_id, started.id, follow=True):
        if entry.message == "begun":
            break
    served.kill_hard()
    served.start()
    ended = templates.build_info(started.template_id, started.id)
    assert ended.state == "failed" and ended.failure is not None and "daemon ended" in ended.failure.message
    assert not served.settle().more_than(before)
    # The next try goes on from what is whole.
    (project / "Dockerfile").write_text((project / "Dockerfile").read_text().replace("sleep 600", "true"))
    _, log = build(served, project, "killed")
    assert len(log.run()) == 1 and log.cached() == 1


@pytest.mark.real
def test_an_image_in_code(served: Served, project: Path) -> None:
    image = (
        Image.debian()
        .env(STAGE="code")
        .copy(project / "lib", "/data")
        .copy(project / "app.sh", "/usr/local/bin/", mode=0o755)
        .run("ls /data > /listing", "echo $STAGE > /stage")
        .workdir("/data")
    )
    log = Log()
    with Sandbox.create(image=image, on_build=log, config=served.config) as sandbox:
        assert sandbox.run("cat /listing /stage; app.sh; pwd").stdout == "ignored.log\nlib.txt\ncode\nrun\n/data\n"
    assert len(log.run()) == 4
    again = Log()
    with Sandbox.create(image=image, on_build=again, config=served.config) as sandbox:
        assert sandbox.run("cat /stage").stdout == "code\n"
    assert again.run() == []
    assert not [one for one in Daemon(served.config).templates.list() if one.name.startswith("image-")]


@pytest.mark.real
def test_an_image_whose_line_fails(served: Served) -> None:
    image = Image.base().run("true")
    image = image.run("echo why; exit 3")  # here
    with pytest.raises(BuildError) as caught:
        Sandbox.create(image=image, config=served.config)
    error = caught.value
    line = Path(__file__).read_text().splitlines()[int(str(error.where).rpartition(":")[2]) - 1]
    assert line.endswith("# here") and (error.exit_code, error.last_lines) == (3, ("why",))
    assert str(error) == f"{error.where}: .run('echo why; exit 3') ended with 3\n  why"


@pytest.mark.real
def test_a_dockerfile_that_code_goes_on_from(served: Served, project: Path) -> None:
    image = Image.dockerfile(project / "Dockerfile").run("head -1 /opt/app/out.txt > /first.txt")
    with Sandbox.create(image=image, config=served.config) as sandbox:
        assert sandbox.run("cat /first.txt; pwd; id -un").stdout == "hello from root\n/opt/app\nuser\n"


@pytest.mark.real
def test_a_template_with_its_process_running(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM template://base\nWORKDIR /srv\nRUN echo up > index.html\n")
    built, _ = build(
        served,
        project,
        "live",
        start_command="cd /srv && python3 -m http.server 8000",
        ready_command="curl -fs localhost:8000",
    )
    assert built.saved
    with Sandbox.create(template="live", config=served.config) as sandbox:
        assert sandbox.run("curl -fs localhost:8000").stdout == "up\n"


@pytest.mark.real
def test_interrupting_the_command_line_cancels_the_build(served: Served, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM template://base\nRUN echo begun; sleep 600\n")
    before = served.settle()
    command = [sys.executable, "-m", "atoll", "template", "build", str(project), "--name", "interrupted"]
    with subprocess.Popen(command, env=served.client_environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line == "begun\n":
                break
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    (ended,) = Daemon(served.config).templates.versions("interrupted")
    assert ended.state == "failed" and ended.failure is not None and "cancelled" in ended.failure.message
    assert not served.settle().more_than(before)


@pytest.mark.real
def test_the_command_line(served: Served, project: Path) -> None:
    def atoll(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "atoll", *arguments],
            env=served.client_environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    built = atoll("template", "build", str(project), "--name", "cli", "--tag", "v1", "--tag", "default")
    assert built.returncode == 0 and built.stdout.startswith("cli "), built.stderr
    assert "\x1b" not in built.stderr and "[builder" in built.stderr
    assert "v1" in atoll("template", "list").stdout
    assert atoll("template", "tag", "cli:v1", "v2").returncode == 0
    assert "v2=" in atoll("template", "show", "cli").stdout
    assert atoll("template", "untag", "cli", "v2").returncode == 0
    assert atoll("template", "logs", "cli:v1").stdout.count("[builder") >= 6
    assert atoll("template", "publish", "cli").returncode == 0
    assert atoll("template", "delete", "cli").returncode == 0
    assert "there is no template" in atoll("template", "show", "cli").stderr
