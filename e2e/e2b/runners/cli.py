"""`python -m e2e.e2b.runners.cli <home of the installed client>`: try every command of E2B's command line.

Unlike the other runners this one runs in our own environment: the client is a program.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.e2b.runners.harness import CHECKS, Run, attempt, check, tell
from e2e.e2b.runners.kitchen import lay_out

LIMIT_S = 60
# `auth` logs in to E2B's own dashboard; `init` and `migrate` only write files where they are called.
NOT_OF_A_SERVER = ("auth", "template init", "template migrate")

HOME = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
PROGRAM = str(HOME / "node_modules/.bin/e2b")
TEMPLATE = f"suite-cli-{uuid.uuid4().hex[:10]}"
WORK = tempfile.TemporaryDirectory(prefix="e2b-cli-")
ENVIRONMENT = os.environ | {"HOME": WORK.name, "NO_COLOR": "1", "TERM": "xterm-256color"}


def e2b(*arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """One call with further environment variables; its output and status."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [PROGRAM, *arguments],
        env=ENVIRONMENT | variables,
        cwd=WORK.name,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        **given,
    )


def said(*arguments: str, stdin: str | None = None) -> str:
    """The output of a call that must succeed."""
    done = e2b(*arguments, stdin=stdin)
    assert done.returncode == 0, f"e2b {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def commands_of(*path: str) -> Iterator[str]:
    """Every command below `path`, by asking for help."""
    listed = said(*path, "--help").partition("Commands:")[2]
    for name, rest in re.findall(r"^  (\w+)\S*( .*)$", listed, re.MULTILINE):
        whole = " ".join([*path, name])
        if name == "help" or whole in NOT_OF_A_SERVER:
            continue
        if re.search(r"\[command\]|work with|manage", rest):
            yield from commands_of(*path, name)
        else:
            yield whole


@contextmanager
def new_sandbox() -> Iterator[str]:
    sandbox_id = said("sandbox", "create", "--detach", "--timeout", "100").split()[-1]
    try:
        yield sandbox_id
    finally:
        e2b("sandbox", "kill", sandbox_id)


class Terminal:
    """A call of the client that has a terminal."""

    def __init__(self, *arguments: str) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [PROGRAM, *arguments],
            env=ENVIRONMENT,
            cwd=WORK.name,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def see(self, done: Callable[[str], object], limit_s: float = 20) -> None:
        """Read until `done(what was shown)`."""
        deadline = time.monotonic() + limit_s
        while not done(self.shown):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._ours], [], [], left)[0], f"it only shows {self.shown!r}"
            try:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                assert done(self.shown), f"it ended, showing {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> int:
        """Wait for the client's end; its status."""
        try:
            return self._process.wait(20)
        finally:
            self._process.kill()
            os.close(self._ours)


@check("sandbox create", "sandbox info", "sandbox list", "sandbox kill")
async def from_create_to_kill(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        info = json.loads(said("sandbox", "info", sandbox_id, "--format", "json"))
        assert info["sandboxId"] == sandbox_id and info["state"] == "running"
        assert f"Sandbox ID: {sandbox_id}" in said("sandbox", "info", sandbox_id)
        listed = json.loads(said("sandbox", "list", "--format", "json"))
        assert sandbox_id in [one["sandboxId"] for one in listed]
        assert sandbox_id in said("sandbox", "list", "--state", "running", "--limit", "100")
        assert "killed" in said("sandbox", "kill", sandbox_id)
    assert sandbox_id not in said("sandbox", "list")
    gone = e2b("sandbox", "info", sandbox_id)
    assert "found" in (gone.stdout + gone.stderr).lower() or gone.returncode != 0


@check("sandbox exec")
async def execute(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        assert said("sandbox", "exec", sandbox_id, "cat", stdin="piped\nlines\n") == "piped\nlines\n"
        done = e2b(
            *("sandbox", "exec", "-u", "root", "-c", "/tmp", "-e", "A=b c", sandbox_id),
            *("sh", "-c", 'whoami; pwd; echo "$A"; echo oops >&2; exit 4'),
        )
        assert (done.returncode, done.stdout) == (4, "root\n/tmp\nb c\n") and "oops" in done.stderr, done
        e2b("sandbox", "exec", "--background", sandbox_id, "sh", "-c", "sleep 1; touch /tmp/behind")
        deadline = time.monotonic() + 10
        while e2b("sandbox", "exec", sandbox_id, "test", "-e", "/tmp/behind").returncode != 0:
            assert time.monotonic() < deadline, "the command in the background did nothing"


@check("sandbox connect")
async def connect_a_terminal(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        terminal = Terminal("sandbox", "connect", sandbox_id)
        terminal.see(lambda shown: "$ " in shown)
        terminal.type("echo in:$((40+2)):$TERM; tty\n")
        terminal.see(lambda shown: "in:42:xterm-256color" in shown and "/dev/pts/" in shown)
        terminal.type("exit\n")
        assert terminal.close() == 0
        assert sandbox_id in said("sandbox", "list"), "leaving the terminal ended the sandbox"


@check("sandbox create")
async def create_with_a_terminal(_run: Run) -> None:
    terminal = Terminal("sandbox", "create", "base", "-c", "/tmp", "-e", "MINE=here")
    terminal.see(lambda shown: "$ " in shown)
    terminal.type("echo $MINE:$PWD\n")
    terminal.see(lambda shown: "here:/tmp" in shown)
    terminal.type("exit\n")
    assert terminal.close() == 0


@check("sandbox metrics", "sandbox logs")
async def metrics_and_logs(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        said("sandbox", "exec", sandbox_id, "true")
        deadline = time.monotonic() + 15
        while "{" not in (found := said("sandbox", "metrics", sandbox_id, "--format", "json")):
            assert time.monotonic() < deadline, "no metrics came"
            time.sleep(0.5)  # noqa: ASYNC251 - nothing else runs here
        line = json.loads(next(line for line in found.splitlines() if line.startswith("{")))
        assert line["cpuCount"] >= 1 and 0 < line["memUsed"] <= line["memTotal"]
        assert "Memory:" in said("sandbox", "metrics", sandbox_id)
        logs = said("sandbox", "logs", sandbox_id, "--format", "json")
        assert any(json.loads(line) for line in logs.splitlines() if line.startswith("{")), logs
        assert "INFO" in said("sandbox", "logs", sandbox_id)


@check("sandbox kill")
async def kill_by_metadata_and_all_at_once(_run: Run) -> None:
    with new_sandbox() as first, new_sandbox() as second:
        assert said("sandbox", "kill", first, second).count("killed") == 2
        unknown = e2b("sandbox", "kill", "iaaaaaaaaaaaaaaaaaaaa")
        assert "wasn't found" in unknown.stdout + unknown.stderr


@check("sandbox resume")
async def resume_what_runs(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        assert "resumed" in said("sandbox", "resume", sandbox_id)


@check("template list")
async def list_templates(_run: Run) -> None:
    assert "base" in said("template", "list")
    assert any("base" in json.dumps(one) for one in json.loads(said("template", "list", "--format", "json")))


@check("sandbox list")
async def a_wrong_key(_run: Run) -> None:
    done = e2b("sandbox", "list", E2B_API_KEY="e2b_" + "0" * 40)
    assert done.returncode != 0 and "AuthenticationError: Unauthorized" in done.stderr, done


def state_of(sandbox_id: str) -> str:
    return str(json.loads(said("sandbox", "info", sandbox_id, "--format", "json"))["state"])


@check("sandbox pause", "sandbox resume", "sandbox list", "sandbox kill")
async def pause_and_resume(_run: Run) -> None:
    with new_sandbox() as sandbox_id:
        said("sandbox", "exec", sandbox_id, "sh", "-c", "echo kept > /dev/shm/kept")
        assert "has been paused" in said("sandbox", "pause", sandbox_id)
        assert "already paused" in said("sandbox", "pause", sandbox_id)
        assert state_of(sandbox_id) == "paused"
        assert sandbox_id in said("sandbox", "list", "--state", "paused", "--limit", "100")
        assert sandbox_id not in said("sandbox", "list", "--state", "running", "--limit", "100")
        assert "has been resumed" in said("sandbox", "resume", sandbox_id)
        assert said("sandbox", "exec", sandbox_id, "cat", "/dev/shm/kept") == "kept\n"
        said("sandbox", "pause", sandbox_id)
        assert "killed" in said("sandbox", "kill", sandbox_id)


@check("sandbox create")
async def create_with_a_lifecycle(_run: Run) -> None:
    options = ("--lifecycle.ontimeout", "pause", "--lifecycle.autoresume", "--timeout", "60")
    sandbox_id = said("sandbox", "create", "--detach", *options).split()[-1]
    try:
        info = json.loads(said("sandbox", "info", sandbox_id, "--format", "json"))
        assert info["lifecycle"] == {"onTimeout": "pause", "autoResume": True}
        said("sandbox", "pause", sandbox_id)
        assert said("sandbox", "exec", sandbox_id, "echo", "awake") == "awake\n"
        assert state_of(sandbox_id) == "running"
    finally:
        e2b("sandbox", "kill", sandbox_id)


@check("sandbox snapshot create", "sandbox snapshot list", "sandbox snapshot delete", "sandbox create")
async def snapshots(_run: Run) -> None:
    name = f"suite-{uuid.uuid4().hex[:12]}"
    with new_sandbox() as sandbox_id:
        said("sandbox", "exec", sandbox_id, "sh", "-c", "echo kept > /dev/shm/kept")
        assert name in said("sandbox", "snapshot", "create", sandbox_id, "--name", name)
        said("sandbox", "snapshot", "create", sandbox_id)
        listed = json.loads(said("sandbox", "snapshot", "list", sandbox_id, "--format", "json"))
        ids = [one["snapshotId"] for one in listed]
        assert len(ids) == 2 and name in ids[1], ids
        named = json.loads(said("sandbox", "snapshot", "list", "--name", name, "--format", "json"))
        assert [one["snapshotId"] for one in named] == [ids[1]]
        assert ids[0] in said("sandbox", "snapshot", "list", sandbox_id)
        made = said("sandbox", "create", ids[1], "--detach", "--timeout", "60").split()[-1]
        assert said("sandbox", "exec", made, "cat", "/dev/shm/kept") == "kept\n"
        said("sandbox", "kill", made)
        assert said("sandbox", "snapshot", "delete", *ids).count("has been deleted") == 2
        gone = e2b("sandbox", "snapshot", "delete", ids[0])
        assert "wasn't found" in gone.stdout + gone.stderr


def write_dockerfile(text: str) -> None:
    Path(WORK.name, "failing.Dockerfile").write_text(text)


def listed_template() -> dict[str, Any] | None:
    """What the list says of the template of this run."""
    listed = json.loads(said("template", "list", "--format", "json"))
    return next((one for one in listed if TEMPLATE in one["aliases"]), None)


@check("template create", "sandbox create", "template list", limit_s=120)
async def create_template(_run: Run) -> None:
    lay_out(Path(WORK.name))
    start, ready = "python3 -m http.server 8765", "curl -sf localhost:8765/says.txt"
    options = ("--dockerfile", "suite.Dockerfile", "--cpu-count", "1", "--memory-mb", "512")
    made = said("template", "create", TEMPLATE, *options, "--cmd", start, "--ready-cmd", ready)
    assert "Building sandbox template" in made and "finished" in made, made
    mine = listed_template()
    assert mine is not None
    assert (mine["buildStatus"], mine["public"], mine["cpuCount"], mine["memoryMB"]) == ("ready", False, 1, 512), mine
    assert TEMPLATE in said("template", "list")
    sandbox_id = said("sandbox", "create", TEMPLATE, "--detach", "--timeout", "60").split()[-1]
    try:
        served = said("sandbox", "exec", sandbox_id, "curl", "-s", "localhost:8765/says.txt")
        assert served == "hello-from-dockerfile\n", served
    finally:
        e2b("sandbox", "kill", sandbox_id)


@check("template create")
async def create_template_that_fails(_run: Run) -> None:
    write_dockerfile("FROM e2bdev/base\nRUN echo said before; exit 7\n")
    done = e2b("template", "create", f"{TEMPLATE}-failing", "--dockerfile", "failing.Dockerfile")
    shown = done.stdout + done.stderr
    assert done.returncode == 1 and "Template build failed" in shown and "exit code 7" in shown, shown
    write_dockerfile("FROM e2bdev/base AS a\nFROM a\n")
    done = e2b("template", "create", f"{TEMPLATE}-failing", "--dockerfile", "failing.Dockerfile")
    # Its own parser takes one stage only.
    assert done.returncode == 1 and "Multi-stage" in done.stdout + done.stderr, done


@check("template publish", "template unpublish")
async def publish_template(_run: Run) -> None:
    assert TEMPLATE in said("template", "publish", TEMPLATE, "--yes")
    mine = listed_template()
    assert mine is not None and mine["public"], mine
    (name,) = mine["names"]
    other = os.environ["E2B_OTHER_KEY"]
    made = e2b("sandbox", "create", name, "--detach", "--timeout", "60", E2B_API_KEY=other)
    assert made.returncode == 0, made.stdout + made.stderr
    e2b("sandbox", "kill", made.stdout.split()[-1], E2B_API_KEY=other)
    said("template", "unpublish", TEMPLATE, "--yes")
    refused = e2b("sandbox", "create", name, "--detach", E2B_API_KEY=other)
    assert refused.returncode != 0 and "found" in refused.stdout + refused.stderr, refused


@check("template delete")
async def delete_template(_run: Run) -> None:
    assert TEMPLATE in said("template", "delete", TEMPLATE, "--yes")
    assert TEMPLATE not in [
        alias for one in json.loads(said("template", "list", "-f", "json")) for alias in one["aliases"]
    ]
    for name in (TEMPLATE, "base"):
        gone = e2b("template", "delete", name, "--yes")
        assert gone.returncode == 1, gone


async def main() -> None:
    public = {command for group in ("sandbox", "template") for command in commands_of(group)}
    version = json.loads((HOME / "node_modules/@e2b/cli/package.json").read_text())["version"]
    tell({"client": version, "flavour": "cli", "public": sorted(public)})
    run = Run("async", e2b=None)
    only = set(filter(None, os.environ.get("E2B_COMPAT_ONLY", "").split(",")))
    for one in CHECKS:
        if not only or one.name in only:
            tell(await attempt(one, run, public))


if __name__ == "__main__":
    asyncio.run(main())
