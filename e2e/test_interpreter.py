"""The code interpreter's template, built by a daemon of its own and spoken to as E2B's clients do: HTTP on port 49999.

Without E2B's packages, which have files of their own: what is said here is the wire itself.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from atoll import Sandbox
from e2e.conftest import Daemon, make_daemon

pytestmark = pytest.mark.timeout(180)

NAME = "code-interpreter-v1"
BUILD_LIMIT_S = 150
PLOT = """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label="line")
plt.title("Title")
plt.xlabel("x (s)")
plt.show()
"""
CHARTS = {
    "scatter": "plt.scatter([1, 2], [3, 4], label='dots')",
    "bar": "plt.bar(['a', 'b'], [3, 4])",
    "pie": "plt.pie([1, 3], labels=['a', 'b'])",
    "box_and_whisker": "plt.boxplot([[1, 2, 3, 4, 5], [1, 3, 5, 7, 9]], patch_artist=True)",
    "superchart": "f, (a, b) = plt.subplots(1, 2); a.plot([1, 2]); b.bar(['a'], [1])",
}


@dataclass
class Interpreter:
    """One sandbox of the template. `took_s`: of the last execution."""

    id: str
    api: httpx.Client
    http: httpx.Client
    took_s: float = field(default=0.0)

    def run(self, code: str, **rest: Any) -> list[dict[str, Any]]:
        """Its lines, as they come, without the count and the end."""
        began = time.monotonic()
        with self.http.stream("POST", "/execute", json={"code": code, **rest}) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [json.loads(line) for line in answer.iter_lines()]
        self.took_s = time.monotonic() - began
        assert lines[-1] == {"type": "end_of_execution"}
        return [line for line in lines[:-1] if line["type"] not in ("number_of_executions", "keepalive")]

    def value(self, code: str, **rest: Any) -> str | None:
        """The text of its main result."""
        return next((line["text"] for line in self.run(code, **rest) if line.get("is_main_result")), None)

    def errors(self, code: str, **rest: Any) -> list[str]:
        """The names of its errors."""
        return [line["name"] for line in self.run(code, **rest) if line["type"] == "error"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    for daemon in make_daemon(tmp_path_factory.mktemp("atoll-interpreter")):
        began = time.monotonic()
        build(daemon)
        print(f"\nthe template was built in {time.monotonic() - began:.1f} s")
        yield daemon


def build(daemon: Daemon) -> None:
    asked = daemon.api("POST", f"/v1/templates/builtin/{NAME}", json={})
    assert asked.status_code in (201, 202), asked.text
    path = f"/v1/templates/{asked.json()['template_id']}/builds/{asked.json()['build_id']}"
    deadline = time.monotonic() + BUILD_LIMIT_S
    while time.monotonic() < deadline:
        state = daemon.api("GET", path).json()
        if state["state"] != "building":
            assert state["state"] == "ready", state["failure"]
            assert state["saved"]
            return
        time.sleep(0.2)
    raise AssertionError(f"the template was not built within {BUILD_LIMIT_S} s")


def start(daemon: Daemon) -> Iterator[Interpreter]:
    """As E2B's client starts one; it has the agent's token and no API key on the port."""
    with httpx.Client(base_url=daemon.url, headers={"x-api-key": daemon.key}, timeout=60) as api:
        body = {"templateID": NAME, "secure": True, "envVars": {"GLOBAL": "all"}, "timeout": 300}
        made = api.post("/sandboxes", json=body)
        assert made.status_code == 201, made.text
        id = made.json()["sandboxID"]
        headers = {"e2b-sandbox-id": id, "e2b-sandbox-port": "49999", "x-access-token": made.json()["envdAccessToken"]}
        try:
            with httpx.Client(base_url=daemon.url, headers=headers, timeout=60) as http:
                yield Interpreter(id, api, http)
        finally:
            api.delete(f"/sandboxes/{id}")


@pytest.fixture(scope="module")
def one(own: Daemon) -> Iterator[Interpreter]:
    yield from start(own)


def shell(own: Daemon, interpreter: Interpreter, command: str) -> str:
    # Not as a context manager, which would end the sandbox.
    return Sandbox.connect(interpreter.id, config=own.config).run(command).stdout


def test_kernels_run_already_in_a_new_sandbox(own: Daemon) -> None:
    plain: list[float] = []
    first: list[float] = []
    plot: list[float] = []
    for _ in range(4):
        for fresh in start(own):
            sandbox = Sandbox.connect(fresh.id, config=own.config)
            began = time.monotonic()
            assert sandbox.run("echo hi").stdout == "hi\n"
            plain.append(time.monotonic() - began)
        for fresh in start(own):
            assert fresh.value("1+1") == "2"
            first.append(fresh.took_s)
            assert fresh.value("1+1", language="javascript") == "2"
            assert any(line.get("chart") for line in fresh.run(PLOT))
            plot.append(fresh.took_s)
    best = [min(times) * 1000 for times in (plain, first, plot)]
    print("first plain command {:.0f} ms, first run_code {:.0f} ms, first plot {:.0f} ms".format(*best))
    assert best[2] < 1000
    # The best of each, taken in turn in one run: what else the machine does makes single ones slower, never faster.
    assert best[1] <= 2 * best[0], f"the first run_code takes {best[1] / best[0]:.1f} times as long as a first command"


def test_output_comes_in_its_order_and_as_it_is_made(one: Interpreter) -> None:
    code = "import sys, time\nprint('a', flush=True)\ntime.sleep(1)\nprint('b', file=sys.stderr, flush=True)\n'it'"
    seen: list[tuple[str, float]] = []
    with one.http.stream("POST", "/execute", json={"code": code}) as answer:
        for line in answer.iter_lines():
            told = json.loads(line)
            seen.append((told.get("text") or told["type"], time.monotonic()))
    assert [name for name, _ in seen] == ["number_of_executions", "a\n", "b\n", "it", "end_of_execution"]
    assert seen[2][1] - seen[1][1] > 0.7


def test_what_other_programs_write_is_there_when_the_code_ends(one: Interpreter) -> None:
    for _ in range(5):
        [line] = one.run("import subprocess; _ = subprocess.run(['echo', 'program'])")
        assert (line["type"], line["text"]) == ("stdout", "program\n")


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "import getpass, os; print(getpass.getuser(), os.getcwd())", "user /home/user\n"),
        ("javascript", "const n = await Promise.resolve(41); console.log(n + 1)", "42\n"),
        ("typescript", "const n: number = 41; console.log(n + 1)", "42\n"),
        ("bash", "echo $((41 + 1)); id -un", "42\nuser\n"),
    ],
)
def test_languages(one: Interpreter, language: str, code: str, expected: str) -> None:
    told = one.run(code, language=language)
    assert "".join(line["text"] for line in told if line["type"] == "stdout") == expected
    assert not [line for line in told if line["type"] == "error"]


def test_what_is_not_there_is_refused(one: Interpreter) -> None:
    for body, status, says in (
        ({"code": "1", "language": "r"}, 400, "there is no kernel for 'r'"),
        ({"code": "1", "language": "python", "context_id": "x"}, 400, "Only one of"),
        ({"code": "1", "context_id": "x"}, 404, "Context x not found"),
    ):
        answer = one.http.post("/execute", json=body)
        assert answer.status_code == status
        assert says in answer.text


def test_contexts_and_restarts(one: Interpreter) -> None:
    made = one.http.post("/contexts", json={"language": "js", "cwd": "/tmp"}).json()
    assert (made["language"], made["cwd"]) == ("javascript", "/tmp")
    one.run("globalThis.x = 1", context_id=made["id"])
    assert one.value("[x, process.cwd()].join()", context_id=made["id"]) == "1,/tmp"
    assert one.value("typeof x", language="javascript") == "undefined"
    assert one.http.post(f"/contexts/{made['id']}/restart").status_code == 200
    assert one.value("typeof x", context_id=made["id"]) == "undefined"
    assert made["id"] in [context["id"] for context in one.http.get("/contexts").json()]
    assert one.http.delete(f"/contexts/{made['id']}").status_code == 204
    assert one.http.post("/execute", json={"code": "1", "context_id": made["id"]}).status_code == 404


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os; print(os.environ.get('GLOBAL'), os.environ.get('ONE'))"),
        ("javascript", "console.log(process.env.GLOBAL, process.env.ONE ?? 'None')"),
        ("bash", 'echo "$GLOBAL ${ONE:-None}"'),
    ],
)
def test_variables(one: Interpreter, language: str, code: str) -> None:
    def output(**rest: Any) -> str:
        return "".join(line["text"] for line in one.run(code, language=language, **rest))

    assert output(env_vars={"ONE": "it's"}) == "all it's\n"
    assert output(env_vars={"GLOBAL": "mine"}) == "mine None\n"
    assert output() == "all None\n"


def wheel(name: str) -> bytes:
    """A package that says where it lies, as pip installs it without a network."""
    about = f"{name}-1.dist-info"
    files = {
        f"{name}/__init__.py": "where = __file__",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, contents in files.items():
            archive.writestr(path, contents)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "install", "by_code", "place"),
    [
        ("byuser", "pip install --no-index {}", False, "/home/user/.local/lib/"),
        ("byroot", "sudo pip install --no-index {}", False, "/usr/local/lib/"),
        ("bycode", "%pip install --no-index {}", True, "/home/user/.local/lib/"),
        ("byshell", "!pip install --no-index {}", True, "/home/user/.local/lib/"),
    ],
)
def test_a_kernel_that_runs_finds_what_pip_installs(
    own: Daemon, one: Interpreter, name: str, install: str, by_code: bool, place: str
) -> None:
    where = f"import {name}; {name}.where"
    # What was looked for in vain is not remembered as missing, either.
    assert one.errors(where) == ["ModuleNotFoundError"]
    kernel = one.value("import os; os.getpid()")
    path = f"/tmp/{name}-1-py3-none-any.whl"
    Sandbox.connect(one.id, config=own.config).files.write(path, wheel(name))
    if by_code:
        assert not one.errors(install.format(path))
    else:
        shell(own, one, install.format(path))
    assert (one.value(where) or "").startswith(place)
    assert one.value("os.getpid()") == kernel


def test_frames_and_charts_come_with_their_data(one: Interpreter) -> None:
    [frame] = one.run("import pandas as pd; pd.DataFrame({'a': [1, 2], 'b': ['x', None]})")
    assert frame["data"] == {"a": [1, 2], "b": ["x", None]}
    assert "<table" in frame["html"]
    [line] = one.run(PLOT)
    chart = line["chart"]
    assert line["png"].startswith("iVBOR")
    assert (chart["type"], chart["title"], chart["x_unit"]) == ("line", "Title", "s")
    assert chart["elements"] == [{"label": "line", "points": [[1, 4], [2, 5], [3, 6]]}]
    for kind, code in CHARTS.items():
        told = one.run(f"import matplotlib.pyplot as plt\nplt.figure()\n{code}\nplt.show()")
        charts = [line["chart"] for line in told if line.get("chart")]
        assert charts, (kind, told)
        assert charts[-1]["type"] == kind, charts
        assert charts[-1]["elements"]


@pytest.mark.parametrize(
    ("language", "endless", "after", "expected"),
    [
        ("python", "n = 0\nwhile True: n += 1", "n > 0", "True"),
        ("javascript", "globalThis.count = 0; while (true) count += 1", "count > 0", "true"),
    ],
)
def test_who_goes_away_interrupts_the_code(
    one: Interpreter, language: str, endless: str, after: str, expected: str
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        one.http.post("/execute", json={"code": endless, "language": language}, timeout=1)
    assert one.value(after, language=language) == expected


@pytest.mark.parametrize(("language", "end"), [("python", "import os; os._exit(1)"), ("javascript", "process.exit(1)")])
def test_a_kernel_that_ends_heals(one: Interpreter, language: str, end: str) -> None:
    assert one.errors(end, language=language) == ["ContextRestarting"]
    assert one.value("2+2", language=language) == "4"


def test_a_server_that_is_killed_heals(own: Daemon, one: Interpreter) -> None:
    before = shell(own, one, "pgrep -f 'atoll_interpreter$'").split()
    assert len(before) == 1
    shell(own, one, f"sudo kill -9 {before[0]}")
    # Requests wait for the next one.
    assert one.value("3+3") == "6"
    assert one.value("3+3", language="javascript") == "6"
    assert shell(own, one, "pgrep -f 'atoll_interpreter$'").split() != before


def test_output_without_end_takes_no_memory(own: Daemon, one: Interpreter) -> None:
    size = 0
    with one.http.stream("POST", "/execute", json={"code": "while True: print('x' * 1000)"}) as answer:
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > 1_000_000:
                # A reader that stops: the code has to wait.
                time.sleep(2)
                break
    pids = shell(own, one, "pgrep -f 'atoll_interpreter$'").split()
    assert int(shell(own, one, f"ps -o rss= -p {pids[0]}")) < 250 * 1024
    assert one.value("5") == "5"
