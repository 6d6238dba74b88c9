"""`atoll run`, `sandbox exec`: streams, exit codes, interruption."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_daemon import FakeDaemon, Script

from atoll import Exit
from atoll.cli.pump import exit_code


def test_output_and_exit_code_are_the_commands(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.scripts["x -y"] = Script(output=[("stdout", b"out\n"), ("stderr", b"err\n")], exit_code=7)
    outcome = atoll("run", "x", "-y")
    assert (outcome.code, outcome.out, outcome.err) == (7, "out\n", "err\n")
    assert daemon.sandboxes == {}


def test_options_reach_the_sandbox_and_the_command(atoll: Atoll, daemon: FakeDaemon) -> None:
    words = "run --template t --runtime container --cpu 2 --memory 1024 --disk 99 --pids 64 -e A=1 -e B=x=y"
    outcome = atoll(*words.split(), "--metadata", "k=v", "--no-internet", "--timeout", "60", "-w", "/w", "--", "x")
    assert outcome.code == 0
    assert daemon.seen[0].json() == {
        "template": "t",
        "runtime": "container",
        "cpu": 2.0,
        "memory_mib": 1024,
        "disk_mib": 99,
        "pids_max": 64,
        "timeout_s": 90,
        "envs": {"A": "1", "B": "x=y"},
        "metadata": {"k": "v"},
        "internet": False,
    }
    assert daemon.processes[100].start["process"] == {"cmd": "x", "args": [], "envs": {}, "cwd": "/w"}
    assert daemon.requests_to("/Start")[0].headers["connect-timeout-ms"] == "60000"


def test_stdin_goes_through_byte_for_byte(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.scripts["cat"] = Script(echo_stdin=True)
    data = "é\r\n".encode() * 50_000
    assert atoll("run", "--", "cat", stdin=data).out.encode() == data


def test_stdin_is_left_alone(atoll: Atoll, daemon: FakeDaemon) -> None:
    assert atoll("run", "-n", "--", "x", stdin=b"data").code == 0
    assert daemon.processes[100].start["stdin"] is False


def test_keep(atoll: Atoll, daemon: FakeDaemon) -> None:
    outcome = atoll("run", "--keep", "--", "x")
    assert "atoll sandbox kill sbx1" in outcome.err
    assert set(daemon.sandboxes) == {"sbx1"}


def test_json(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.scripts["x"] = Script(output=[("stdout", "é".encode())], exit_code=3)
    outcome = atoll("run", "--json", "--", "x")
    report = json.loads(outcome.out)
    assert (outcome.code, report["exit_code"], report["stdout"], report["sandbox_id"]) == (3, 3, "é", "sbx1")


@pytest.mark.parametrize(
    ("refusal", "code", "words"),
    [
        ({"code": "invalid_argument", "message": "x: executable file not found in $PATH"}, 127, "not found"),
        ({"code": "not_found", "message": "program 'x' was not found in PATH"}, 127, "not found"),
        ({"code": "permission_denied", "message": "user 'user' may not run 'x'"}, 126, "may not run"),
        ({"code": "invalid_argument", "message": "'x' is not a program"}, 126, "not a program"),
        ({"code": "permission_denied", "message": "user 'user' may not enter cwd '/root'"}, 125, "cwd"),
        ({"code": "invalid_argument", "message": "cwd '/x' does not exist"}, 125, "cwd"),
        ({"code": "unauthenticated", "message": "invalid username: 'x' not found"}, 125, "username"),
    ],
)
def test_commands_that_cannot_start(
    refusal: dict[str, str], code: int, words: str, atoll: Atoll, daemon: FakeDaemon
) -> None:
    daemon.scripts["x"] = Script(refuse=refusal)
    outcome = atoll("run", "--", "x")
    assert outcome.code == code
    assert words in outcome.err
    assert daemon.sandboxes == {}


def test_a_line_for_a_shell_gets_a_hint(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.scripts["a | b"] = Script(refuse={"code": "not_found", "message": "a | b: not found"})
    assert "sh -c" in atoll("run", "--", "a | b").err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--timeout", "0", "--", "x"],
        ["run", "--cpu", "many", "--", "x"],
        ["run", "-e", "A", "--", "x"],
        ["run", "-e", "=1", "--", "x"],
        ["run", "--unheard-of", "--", "x"],
        ["sandbox", "exec", "sbx1"],
    ],
)
def test_wrong_use_of_what_passes_codes_through_is_125(arguments: list[str], atoll: Atoll, daemon: FakeDaemon) -> None:
    outcome = atoll(*arguments)
    assert outcome.code == 125
    assert "Error" in outcome.err
    assert daemon.seen == []


def test_wrong_use_of_others_is_2(atoll: Atoll) -> None:
    assert atoll("sandbox", "kill").code == 2
    assert atoll("nothing").code == 2


def test_a_refusal_is_125_with_its_sentence(atoll: Atoll, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"error": {"code": "capacity", "message": "the machine is full"}}'
    daemon.answers["POST /v1/sandboxes"] = [(503, {}, body)]
    outcome = atoll("run", "--", "x")
    assert (outcome.code, outcome.err) == (125, "atoll: the machine is full [capacity]\n")
    monkeypatch.setenv("ATOLL_API_URL", "not an address")
    assert atoll("run", "--", "x").code == 125


def test_a_command_that_takes_too_long_is_124(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.scripts["x"] = Script(end_error={"code": "deadline_exceeded", "message": "deadline exceeded"})
    outcome = atoll("run", "--timeout", "1", "--", "x")
    assert outcome.code == 124
    assert "--timeout" in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_kills_the_sandbox(number: signal.Signals, atoll: Atoll, daemon: FakeDaemon) -> None:
    hold = threading.Event()
    daemon.scripts["x"] = Script(output=[("stdout", b"a")], hold=hold)

    def interrupt() -> None:
        daemon.started.wait(10)
        os.kill(os.getpid(), number)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    outcome = atoll("run", "-n", "--", "x")
    interrupter.join()
    hold.set()
    assert outcome.code == 128 + number
    assert daemon.sandboxes == {}


def test_exec_in_a_sandbox_that_runs(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    daemon.scripts["x -u y"] = Script(output=[("stdout", b"out")], exit_code=4)
    outcome = atoll("sandbox", "exec", "sbx1", "-u", "root", "-e", "A=1", "--", "x", "-u", "y")
    assert (outcome.code, outcome.out) == (4, "out")
    assert daemon.requests_to("/Start")[0].headers["authorization"] == "Basic cm9vdDo="
    assert daemon.processes[100].start["process"]["envs"] == {"A": "1"}
    assert set(daemon.sandboxes) == {"sbx1"}


def test_exec_in_what_is_not_there(atoll: Atoll) -> None:
    outcome = atoll("sandbox", "exec", "nope", "--", "x")
    assert (outcome.code, "not_found" in outcome.err) == (125, True)


def test_exec_detached(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    hold = threading.Event()
    daemon.scripts["x"] = Script(hold=hold)
    assert atoll("sandbox", "exec", "-d", "sbx1", "--", "x").out == "100\n"
    hold.set()


def test_exec_interrupted_once_goes_to_the_command(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    hold = threading.Event()
    daemon.scripts["x"] = Script(output=[("stdout", b"a")], hold=hold, exit_code=9)

    def interrupt() -> None:
        daemon.started.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        daemon.signalled.wait(10)
        hold.set()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    outcome = atoll("sandbox", "exec", "-n", "sbx1", "--", "x")
    interrupter.join()
    assert (outcome.code, daemon.processes[100].signals) == (9, ["SIGINT"])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (Exit(0, "exit status 0", None), 0),
        (Exit(255, "exit status 255", ""), 255),
        (Exit(-1, "signal: killed", ""), 137),
        (Exit(-1, "signal: segmentation fault (core dumped)", ""), 139),
        (Exit(-1, "signal: interrupt", ""), 130),
        (Exit(-1, "signal: SIGTERM", ""), 143),
        (Exit(-1, "signal: signal 34", ""), 162),
        (Exit(-1, "something else", ""), 137),
    ],
)
def test_exit_codes_as_a_shell_tells_them(end: Exit, code: int) -> None:
    assert exit_code(end) == code
