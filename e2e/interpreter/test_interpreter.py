"""The code interpreter's template, with E2B's own clients and with our SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from atoll import AsyncSandbox, Config, NotFound, Sandbox, Timeout, charts
from e2e.conftest import Daemon
from e2e.e2b.clients import Client, install, load
from e2e.interpreter.runners import plots

ROOT = Path(__file__).parents[2]
NAME = "code-interpreter-v1"
CLIENTS = [(client, flavour) for client in load("interpreter") for flavour in client.default]
RUNNERS = {"sync": "synchronous", "async": "asynchronous"}
# The first time, packages come over the network; afterwards their layers are there.
BUILD_TIMEOUT_S = 900
RUN_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def built(daemon: Daemon) -> Daemon:
    answer = daemon.api("POST", f"/v1/templates/builtin/{NAME}", json={})
    answer.raise_for_status()
    path = f"/v1/templates/{answer.json()['template_id']}/builds/{answer.json()['build_id']}"
    headers = {"authorization": f"Bearer {daemon.key}"}
    # The log ends when the build does.
    with httpx.stream("GET", f"{daemon.url}{path}/logs?follow=true", headers=headers, timeout=BUILD_TIMEOUT_S) as log:
        said = [json.loads(line)["message"] for line in log.iter_lines()]
    build = daemon.api("GET", path).json()
    assert (build["state"], build["saved"]) == ("ready", True), (build["failure"], said[-20:])
    return daemon


@pytest.mark.parametrize(("client", "flavour"), CLIENTS, ids=lambda part: getattr(part, "name", part))
def test_what_e2b_documents(built: Daemon, client: Client, flavour: str) -> None:
    home = install(client)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("E2B_")}
    settings = {"E2B_API_KEY": built.key, "E2B_API_URL": built.url, "E2B_SANDBOX_URL": built.url}
    here = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = (
        ["node", str(ROOT / "e2e/interpreter/runners/main.mjs"), str(home)]
        if flavour == "js"
        else [str(home / "bin/python"), "-m", f"e2e.interpreter.runners.{RUNNERS[flavour]}"]
    )
    done = subprocess.run(
        command,
        env={**inherited, **settings, **here},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0 and len(told) > 5, done.stdout[-2000:] + done.stderr[-4000:]
    faults = [f"{line['example']}: {line['reason']}" for line in told if line["reason"]]
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def sandbox(built: Daemon) -> Iterator[Sandbox]:
    with Sandbox.create(template=NAME, envs={"FOREVER": "yes"}, config=built.config) as one:
        yield one


def test_run(sandbox: Sandbox) -> None:
    said: list[str] = []
    execution = sandbox.code.run("x = 20\nprint('é')\nx + 1", on_stdout=said.append)
    assert (execution.text, execution.stdout, "".join(said), execution.error) == ("21", "é\n", "é\n", None)
    assert sandbox.code.run("console.log(1); 2 + 3", "javascript").text == "5"
    assert str(sandbox.code.run("y").error) == "NameError: name 'y' is not defined"


def test_variables(sandbox: Sandbox) -> None:
    read = "import os; os.getenv('ONCE'), os.getenv('FOREVER')"
    assert sandbox.code.run(read, envs={"ONCE": "1"}).text == "('1', 'yes')"
    assert sandbox.code.run(read).text == "(None, 'yes')"


def test_contexts(sandbox: Sandbox) -> None:
    context = sandbox.code.create_context(cwd="/tmp")
    assert context in sandbox.code.contexts()
    assert sandbox.code.run("a = 1; import os; os.getcwd()", context=context).text == "/tmp"
    sandbox.code.restart_context(context)
    assert not sandbox.code.run("a", context=context).ok
    assert sandbox.code.delete_context(context) is True
    assert sandbox.code.delete_context(context) is False
    with pytest.raises(NotFound, match=context.id):
        sandbox.code.run("1", context=context)


def test_a_plot_is_a_picture_and_its_data(sandbox: Sandbox) -> None:
    [result] = sandbox.code.run(plots.LINE).results
    assert result.png is not None and result.png.startswith(b"\x89PNG")
    assert isinstance(result.chart, charts.LineChart)
    assert result.chart.elements == [charts.Points("growth", [(1, 2.0), (2, 4.0), (3, 8.0)])]
    [result] = sandbox.code.run("import pandas as pd; pd.DataFrame({'a': [1]})").results
    assert result.data == {"a": [1]} and "<table" in result._repr_mimebundle_()["text/html"]


def test_time_that_is_over_interrupts_the_code(sandbox: Sandbox) -> None:
    sandbox.code.run("kept = 4")
    with pytest.raises(Timeout):
        sandbox.code.run("import time; time.sleep(60)", timeout_s=1)
    assert sandbox.code.run("kept", timeout_s=10).text == "4"


async def test_a_cancelled_call_interrupts_the_code(built: Daemon, sandbox: Sandbox) -> None:
    same = await AsyncSandbox.get(sandbox.id, config=built.config)
    printed = asyncio.Event()
    code = "kept = 5\nprint('on', flush=True)\nimport time\ntime.sleep(60)"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(same.code.run(code, on_stdout=lambda _: printed.set()), 3)
    assert printed.is_set()
    assert (await same.code.run("kept", timeout_s=10)).text == "5"


def test_copies_have_the_variables_of_the_kernel(sandbox: Sandbox) -> None:
    sandbox.code.run("copied = 'here'")
    [copy] = sandbox.fork()
    try:
        assert copy.code.run("copied").text == "here"
        copy.code.run("copied = 'there'")
        assert sandbox.code.run("copied").text == "here"
    finally:
        copy.kill()


def test_many_at_once(built: Daemon) -> None:
    def one(number: int, config: Config = built.config) -> str | None:
        with Sandbox.create(template=NAME, config=config) as own:
            return own.code.run(f"{number} * 2").text

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == ["0", "2", "4"]


def test_a_sandbox_killed_while_code_runs(built: Daemon) -> None:
    own = Sandbox.create(template=NAME, config=built.config)
    threading.Timer(1, own.kill).start()
    began = time.monotonic()
    with pytest.raises(NotFound, match="not running any more"):
        own.code.run("import time; time.sleep(60)")
    assert time.monotonic() - began < 10
