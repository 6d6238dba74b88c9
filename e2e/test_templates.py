"""Templates of projects with the real runtime: a process that is live in every sandbox, versions, projects, ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from atoll import AtollError, Config, InvalidArgument, NotFound, Pool, Sandbox, Snapshot
from e2e.conftest import Daemon as Served
from e2e.conftest import make_daemon
from e2e.e2b.other_project import key_of_another_project

CACHE = Path(os.environ.get("ATOLL_CACHE_DIR", "/var/cache/atoll"))
PATIENCE_S = 60
# Answers with what it drew when it was started, and how often it was asked: both are in its memory alone.
PROGRAM = """
import http.server, secrets
DRAWN, asked = secrets.token_hex(8), 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{DRAWN} {asked} {VERSION}".encode())
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
ASK = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000', timeout=5).read().decode())\""
SPEC = {"cpu": 1, "memory_mib": 512, "disk_mib": 2048}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with a cache of its own, in which `base` is the machine's."""
    base = tmp_path_factory.mktemp("atoll-templates")
    cache = base / "cache"
    (cache / "layers").mkdir(parents=True)
    subprocess.run(["cp", "-al", CACHE / "templates", cache], check=True)
    for digest in json.loads((cache / "templates" / "base.json").read_text())["layers"]:
        subprocess.run(["cp", "-al", CACHE / "layers" / digest, cache / "layers"], check=True)
        shutil.rmtree(cache / "layers" / digest / "pins", ignore_errors=True)
    if (CACHE / "bin").is_dir():
        shutil.copytree(CACHE / "bin", cache / "bin", symlinks=True)
    try:
        yield from make_daemon(base, ATOLL_CACHE_DIR=str(cache))
    finally:
        shutil.rmtree(cache)


def build(served: Served, name: str, *, key: str | None = None, live: bool = True, **body: Any) -> str:
    """Build a version of `name` to its end; the id of the build. `live`: its program runs in every sandbox."""

    def ask(method: str, path: str, json: object = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or served.key}"}
        return httpx.request(method, f"{served.url}{path}", headers=headers, json=json, timeout=60)

    made = ask("POST", "/v1/templates", {"name": name, **SPEC, **body})
    assert made.status_code == 201, made.text
    path = f"/v1/templates/{made.json()['template_id']}/builds/{made.json()['build_id']}"
    build_id = str(made.json()["build_id"])
    program = PROGRAM.replace("{VERSION}", build_id)
    steps: list[Mapping[str, Any]] = [
        {"run": "mkdir -p /srv && cat > /srv/program.py", "stdin": program, "network": False},
        {"env": {"GREETING": "hello"}},
        {"workdir": "/srv"},
    ]
    commands = {"start_command": "python3 /srv/program.py", "ready_command": ASK} if live else {}
    started = ask("POST", path, {"base": {"template": "base"}, "steps": steps, **commands})
    assert started.status_code == 202, started.text
    deadline = time.monotonic() + 180
    while (found := ask("GET", path).json())["state"] in ("waiting", "building"):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    log = ask("GET", f"{path}/logs").text
    assert found["state"] == "ready", (found, log)
    assert found["saved"] is live
    return build_id


def asked(sandbox: Sandbox) -> tuple[str, int, str]:
    """What the program in a sandbox answers: what it drew, how often it was asked, its version."""
    drawn, count, version = sandbox.run(ASK).stdout.split()
    return drawn, int(count), version


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def pinned(served: Served) -> set[str]:
    """The builds that keep layers."""
    cache = Path(served.settings["ATOLL_CACHE_DIR"])
    names = {path.name.partition(".")[2] for path in cache.glob(f"layers/*/pins/{served.instance}.*")}
    return {name for name in names if "-" in name}


def saves(served: Served) -> int:
    """How many saves are on disk."""
    return len(list((served.state_dir / "layers" / ".saves").glob("s*")))


def kill(*sandboxes: Sandbox) -> None:
    for sandbox in sandboxes:
        sandbox.kill()


def test_a_program_is_live_in_every_sandbox(served: Served) -> None:
    version = build(served, "live")
    one = Sandbox.create(template="live", envs={"MINE": "1"}, metadata={"k": "v"}, internet=False, config=served.config)
    two = Sandbox.create(template=f"live:{version}", config=served.config)
    drawn, count, said = asked(one)
    assert said == version
    # The same process, and from then on a life of its own.
    assert asked(two) == (drawn, count, version)
    assert asked(one) == (drawn, count + 1, version)
    assert one.info().metadata == {"k": "v"}
    assert one.run("echo $MINE $GREETING; pwd; hostname").stdout.split() == ["1", "hello", "/srv", one.id]
    assert two.run("echo $MINE-$GREETING").stdout.strip() == "-hello"
    # Bounds are those that the memory was made with.
    for bounds in ({"cpu": 2}, {"memory_mib": 1024}, {"runtime": "container"}):
        with pytest.raises(InvalidArgument, match="memory of template 'live' was taken with"):
            Sandbox.create(template="live", config=served.config, **bounds)
    kill(one, two)


def test_its_life_is_as_of_any_other(served: Served) -> None:
    version = build(served, "lives")
    sandbox = Sandbox.create(template="lives", config=served.config)
    drawn, count, _ = asked(sandbox)
    sandbox.pause()
    sandbox.resume()
    assert asked(sandbox) == (drawn, count + 1, version)
    kept = sandbox.snapshot("kept")
    (fork,) = sandbox.fork(1)
    assert asked(fork) == (drawn, count + 2, version)
    sandbox.files.write("/srv/late", "x")
    sandbox.rollback("kept")
    assert asked(sandbox) == (drawn, count + 2, version)
    assert not sandbox.files.exists("/srv/late")
    # Files alone start as the template wants, without its program.
    sandbox.pause(keep_memory=False)
    sandbox.resume()
    assert sandbox.run("echo $GREETING; pwd").stdout.split() == ["hello", "/srv"]
    assert sandbox.run(ASK).exit_code != 0
    kill(sandbox, fork)
    kept.delete()


def test_tags_move_and_builds_are_kept(served: Served) -> None:
    old = build(served, "moves:v1", live=False)
    new = build(served, "moves", live=False)

    def means(name: str) -> object:
        with Sandbox.create(template=name, config=served.config) as sandbox:
            return sandbox.run("grep -o '[0-9a-f-]\\{36\\}' program.py").stdout.strip()

    assert (means("moves"), means("moves:v1"), means(old)) == (new, old, old)
    moved = served.api("POST", "/v1/templates/moves/tags", json={"tags": ["default"], "build": "v1"})
    assert moved.status_code == 200, moved.text
    assert (means("moves"), means(new)) == (old, new)
    with pytest.raises(NotFound, match="has no tag 'v9'"):
        means("moves:v9")


def test_two_projects(served: Served) -> None:
    version = build(served, "shared")
    other = Config(api_url=served.url, api_key=key_of_another_project(served.state_dir))
    with pytest.raises(NotFound):
        Sandbox.create(template="default/shared", config=other)
    assert served.api("PATCH", "/v1/templates/shared", json={"public": True}).status_code == 200
    theirs = Sandbox.create(template="default/shared", config=other)
    assert asked(theirs)[2] == version
    # By the name alone it is nobody else's; and another `base` is its own project's alone.
    with pytest.raises(NotFound):
        Sandbox.create(template="shared", config=other)
    mine = build(served, "base", key=other.api_key, live=False)
    with Sandbox.create(config=other) as sandbox:
        assert mine in sandbox.run("cat /srv/program.py").stdout
    with Sandbox.create(config=served.config) as sandbox:
        assert sandbox.run("ls /srv").stdout == ""
    theirs.kill()


def test_deleted_while_it_is_used(served: Served) -> None:
    version = build(served, "goes")
    before = saves(served)
    running = Sandbox.create(template="goes", config=served.config)
    paused = Sandbox.create(template="goes", config=served.config)
    drawn, count, _ = asked(paused)
    paused.pause()
    kept = running.snapshot("of-goes")
    assert served.api("DELETE", "/v1/templates/goes").status_code == 204
    with pytest.raises(NotFound):
        Sandbox.create(template="goes", config=served.config)
    # Pruning takes nothing from what goes on.
    assert served.api("POST", "/v1/images/prune").status_code == 200
    assert version in pinned(served)
    assert asked(running)[:2] == (drawn, count)
    paused.resume()
    assert asked(paused)[:2] == (drawn, count + 1)
    running.kill()
    again = Sandbox.create(template="of-goes", config=served.config)
    assert asked(again)[0] == drawn
    kill(paused, again)
    assert version in pinned(served)
    kept.delete()
    until(lambda: version not in pinned(served))
    until(lambda: saves(served) == before - 1)
    # Its name is free.
    assert build(served, "goes", live=False) != version


def test_a_pool_of_it(served: Served) -> None:
    first = build(served, "pooled")
    pool = Pool.set("pooled", ready=1, runtime="gvisor", **SPEC, config=served.config)

    def warm() -> bool:
        return Pool.get(pool.id, config=served.config).warm == 1

    until(warm)
    sandbox = Sandbox.create(template="pooled", envs={"MINE": "1"}, config=served.config)
    assert Pool.get(pool.id, config=served.config).info.claims == 1
    assert asked(sandbox)[2] == first
    assert sandbox.run("echo $MINE $GREETING").stdout.split() == ["1", "hello"]
    # What waits is of the newest version, always.
    second = build(served, "pooled")
    with Sandbox.create(template="pooled", config=served.config) as newer:
        assert asked(newer)[2] == second
    until(warm)
    assert served.api("DELETE", "/v1/templates/pooled").status_code == 204
    until(lambda: Pool.get(pool.id, config=served.config).warm == 0)
    assert asked(sandbox)[2] == first
    sandbox.kill()
    pool.delete()
    until(lambda: not {first, second} & pinned(served))


def test_a_restart_and_a_crash_keep_everything(served: Served) -> None:
    version = build(served, "stays", tags=["v1", "default"])
    sandbox = Sandbox.create(template="stays", config=served.config)
    drawn, count, _ = asked(sandbox)
    kept = pinned(served)
    for crash in (True, False):
        if crash:
            served.kill_hard()
        else:
            assert served.process is not None
            served.process.terminate()
            served.wait_end()
        served.start()
        assert pinned(served) == kept
        count += 1
        assert asked(sandbox) == (drawn, count, version)
        with Sandbox.create(template="stays:v1", config=served.config) as another:
            assert asked(another)[0] == drawn
    sandbox.kill()


@pytest.mark.parametrize("point", ["template_save.after_insert", "template_save.after_save", "build.before_finish"])
def test_a_daemon_that_dies_as_it_saves(served: Served, point: str) -> None:
    served.kill_hard()
    served.start(crash=point)
    before, kept = saves(served), pinned(served)
    with pytest.raises((httpx.TransportError, AssertionError)):
        build(served, "dies")
    served.wait_end()
    served.start()
    served.settle()
    (found,) = [
        one for one in served.api("GET", "/v1/templates/dies/builds").json()["items"] if one["state"] != "ready"
    ][:1]
    assert (found["state"], found["saved"]) == ("failed", False)
    until(lambda: saves(served) == before and pinned(served) == kept)
    with pytest.raises(AtollError):
        Sandbox.create(template="dies", config=served.config)
    assert Snapshot.list(config=replace(served.config)) is not None
