# Generated from `tests/_async/test_commands.py` by `scripts/unasync.py`: change that, not this.
"""Commands: run, started, attached; their streams broken and taken up again."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
from sdk.tests.fake_daemon import FakeDaemon, Script

from atoll import (
    Sandbox,
    CommandFailed,
    Config,
    ConnectionFailed,
    Exit,
    FailedPrecondition,
    Gap,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutputLost,
    PtyOutput,
    Stderr,
    Stdout,
    Timeout,
)
from atoll import _collect as collect
from atoll import _process_wire as wire

AWAY: tuple[int, dict[str, str], bytes] = (503, {}, b'{"error": {"code": "unavailable", "message": "starting"}}')
DROPPED: tuple[int, dict[str, str], bytes] = (0, {}, b"")
LONG = [("stdout", b"0123456789" * 100), ("stderr", b"abc" * 50), ("stdout", "€".encode() * 100)]


@pytest.fixture
def sandbox(daemon: FakeDaemon, config: Config) -> Sandbox:
    return Sandbox.create(config=config)


def test_a_result_has_everything(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=[("stdout", b"a\xff"), ("stderr", "é".encode()), ("stdout", b"b")], exit_code=7)
    result = sandbox.run("x", cwd="/w", envs={"A": "1"}, user="root", timeout_s=2.5)
    assert (result.stdout, result.stdout_bytes, result.stderr) == ("a\ufffdb", b"a\xffb", "é")
    assert (result.exit_code, result.error, result.ok) == (7, "exit status 7", False)
    assert 0 < result.duration_s < 10
    seen = daemon.seen[-1]
    assert seen.headers["connect-timeout-ms"] == "2500"
    assert seen.headers["authorization"] == "Basic cm9vdDo="
    process = daemon.processes[100]
    assert process.start["process"] == {"cmd": "/bin/sh", "args": ["-c", "x"], "envs": {"A": "1"}, "cwd": "/w"}
    assert process.start["stdin"] is False


def test_a_list_is_executed_as_it_is(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    assert (sandbox.run(["echo", "a b"])).ok
    assert daemon.processes[100].start["process"] == {"cmd": "echo", "args": ["a b"], "envs": {}}
    assert "connect-timeout-ms" not in daemon.seen[-1].headers
    assert "authorization" not in daemon.seen[-1].headers


def test_check_makes_a_failure_an_error(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=[("stderr", b"why")], exit_code=1)
    assert (sandbox.run("true", check=True)).ok
    with pytest.raises(CommandFailed, match="'x' failed: exit status 1") as caught:
        sandbox.run("x", check=True)
    assert caught.value.result.stderr == "why"


def test_callbacks_get_text_as_it_comes(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    euro = "€".encode()
    daemon.scripts["x"] = Script(output=[("stdout", euro[:2]), ("stderr", b"e"), ("stdout", euro[2:])])
    out: list[str] = []
    err: list[str] = []
    result = sandbox.run("x", on_stdout=out.append, on_stderr=err.append)
    assert (out, err, result.stdout) == (["€"], ["e"], "€")


@pytest.mark.parametrize("stdin", ["text é", b"bytes", io.BytesIO(b"file" * 200_000), [b"one", b"two"], ""])
def test_stdin(stdin: str | bytes, daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["cat"] = Script(echo_stdin=True)
    expected = stdin.getvalue() if isinstance(stdin, io.BytesIO) else stdin
    expected = expected.encode() if isinstance(expected, str) else expected
    result = sandbox.run("cat", stdin=stdin)
    assert result.stdout_bytes == (b"".join(expected) if isinstance(expected, list) else expected)


def test_stdin_that_nobody_reads_is_no_error(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    path = f"/v1/sandboxes/{sandbox.id}/agent/process.Process/SendInput"
    daemon.answers[f"POST {path}"] = [(404, {}, b'{"code": "not_found", "message": "gone"}')]
    assert (sandbox.run("true", stdin="x" * 10)).ok


def test_stdin_that_fails_otherwise_is_an_error(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    path = f"/v1/sandboxes/{sandbox.id}/agent/process.Process/SendInput"
    daemon.answers[f"POST {path}"] = [(400, {}, b'{"code": "invalid_argument", "message": "bad"}')]
    with pytest.raises(InvalidArgument, match="bad"):
        sandbox.run("true", stdin="x" * 10)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ({"code": "invalid_argument", "message": "cwd '/x' does not exist"}, InvalidArgument),
        ({"code": "unauthenticated", "message": "invalid username: 'x'"}, InvalidArgument),
        ({"code": "not_found", "message": "no such program"}, NotFound),
    ],
)
def test_what_cannot_run_is_an_error(
    refusal: dict[str, str], kind: type[Exception], daemon: FakeDaemon, sandbox: Sandbox
) -> None:
    daemon.scripts["x"] = Script(refuse=refusal)
    with pytest.raises(kind, match=refusal["message"]):
        sandbox.run("x")


@pytest.mark.parametrize("cuts", [[1], [999], [1000], [1001], [1449], [1450], [3, 3, 700, 1151, 1152], [1150] * 5])
def test_a_broken_stream_goes_on_where_it_stopped(
    cuts: list[int], daemon: FakeDaemon, sandbox: Sandbox
) -> None:
    daemon.scripts["x"] = Script(output=LONG, cuts=list(cuts))
    result = sandbox.run("x", timeout_s=60)
    assert (result.stdout, result.stderr) == ("0123456789" * 100 + "€" * 100, "abc" * 50)
    assert len(daemon.requests_to("/Start")) == 1
    connects = daemon.requests_to("/Connect")
    assert len(connects) == len(cuts)
    assert "connect-timeout-ms" not in connects[0].headers


def test_text_is_whole_across_a_broken_stream(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=[("stdout", "€".encode())], cuts=[1])
    process = sandbox.start("x")
    assert "".join([event.text for event in process if isinstance(event, Stdout)]) == "€"


def test_lost_output_is_a_gap(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=LONG, cuts=[100], ring_from=1150)
    events = [event for event in sandbox.start("x")]
    assert Gap(1050) in events
    daemon.scripts["x"] = Script(output=LONG, cuts=[100, 1200], ring_from=1150)
    with pytest.raises(OutputLost, match="1050 bytes") as caught:
        sandbox.run("x")
    assert caught.value.result.stdout == "0123456789" * 10 + "€" * 100
    assert caught.value.result.exit_code == 0


def test_a_start_whose_answer_is_lost_is_not_started_twice(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=LONG, cut_before_start=True)
    assert (sandbox.run("x")).stderr == "abc" * 50
    assert len(daemon.processes) == 1
    process = daemon.processes[100]
    assert daemon.requests_to("/Connect")[0].body.endswith(f'{{"process":{{"tag":"{process.tag}"}}}}'.encode())


def test_a_start_that_never_arrived_is_an_error(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/agent/process.Process/Start"] = [(0, {}, b"")]
    with pytest.raises(ConnectionFailed, match="not known"):
        sandbox.run("x")
    assert daemon.processes == {}


def test_the_daemon_may_be_away_for_a_while(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=LONG, cuts=[5])
    daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/agent/process.Process/Connect"] = [AWAY, DROPPED, AWAY]
    assert (sandbox.run("x")).stdout_bytes == b"0123456789" * 100 + "€".encode() * 100


def test_a_daemon_that_stays_away_is_an_error(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=replace(config, resume_timeout_s=0.0))
    daemon.scripts["x"] = Script(output=LONG, cuts=[5, 5])
    daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/agent/process.Process/Connect"] = [AWAY] * 50
    with pytest.raises(ConnectionFailed, match="may still be running"):
        sandbox.run("x")


def test_nonsense_from_the_agent_is_an_error_and_the_process_is_killed(
    daemon: FakeDaemon, sandbox: Sandbox
) -> None:
    daemon.scripts["x"] = Script(frames=b"\x00\xff\xff\xff\xff")
    with pytest.raises(Internal):
        sandbox.run("x")
    assert daemon.processes[100].signals == ["SIGKILL"]


def test_the_agent_says_that_time_is_over(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    over = {"code": "deadline_exceeded", "message": "context deadline exceeded"}
    daemon.scripts["x"] = Script(output=[("stdout", b"so far")], end_error=over)
    with pytest.raises(Timeout) as caught:
        sandbox.run("x", timeout_s=0.5)
    assert caught.value.result is not None
    assert (caught.value.result.stdout, caught.value.result.exit_code) == ("so far", -1)


def test_a_process_that_was_killed_when_its_time_was_over(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(exit_code=-1, status="signal: killed")
    with pytest.raises(Timeout, match="1e-06 s"):
        sandbox.run("x", timeout_s=1e-6)
    result = sandbox.run("x", timeout_s=60)
    assert (result.exit_code, result.error) == (-1, "signal: killed")


def test_too_much_output_is_refused_and_the_process_killed(
    daemon: FakeDaemon, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_COLLECTED_BYTES", 1100)
    daemon.scripts["x"] = Script(output=LONG, hold=threading.Event())
    with pytest.raises(LimitExceeded, match="start"):
        sandbox.run("x")
    assert daemon.processes[100].killed.is_set()


def test_events_of_a_started_process(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=[("stdout", b"a"), ("stderr", b"b")], exit_code=1)
    process = sandbox.start("x")
    assert process.pid == 100
    assert [event for event in process] == [
        Stdout(b"a", "a"),
        Stderr(b"b", "b"),
        Exit(1, "exit status 1", "exit status 1"),
    ]
    assert process.exit == Exit(1, "exit status 1", "exit status 1")
    assert [event for event in process] == []
    assert (process.wait()).exit_code == 1


def test_input_and_signals_of_a_started_process(
    daemon: FakeDaemon, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atoll._sync import process as module

    monkeypatch.setattr(module, "STDIN_CHUNK_BYTES", 4)
    daemon.scripts["cat"] = Script(echo_stdin=True)
    process = sandbox.start("cat", stdin=True)
    process.send_stdin("héllo")
    process.send_stdin(b"!")
    assert len(daemon.requests_to("/SendInput")) == 3
    process.send_signal("SIGUSR1")
    process.send_signal(10)
    process.close_stdin()
    assert (process.wait()).stdout == "héllo!"
    assert daemon.processes[100].signals == ["SIGUSR1", "10"]


def test_stdin_without_having_asked_for_it(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    hold = threading.Event()
    daemon.scripts["x"] = Script(hold=hold)
    process = sandbox.start("x")
    with pytest.raises(FailedPrecondition, match="stdin"):
        process.send_stdin("a")
    process.kill()
    result = process.wait()
    assert (result.exit_code, result.error) == (-1, "signal: killed")


def test_kill_of_what_has_ended_is_nothing(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    process = sandbox.start("x")
    daemon.processes.clear()
    process.kill()
    with pytest.raises(NotFound):
        process.send_signal("SIGINT")


def test_disconnect_ends_the_iteration_and_attach_goes_on(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    hold = threading.Event()
    daemon.scripts["x"] = Script(output=[("stdout", b"a")], hold=hold)
    with sandbox.start("x") as process:
        assert process.__next__() == Stdout(b"a", "a")
    assert [event for event in process] == []
    hold.set()
    again = sandbox.attach(process.pid)
    assert [event for event in again] == [Stdout(b"a", "a"), Exit(0, "exit status 0", None)]
    live = sandbox.attach(process.pid, replay=False)
    assert [event for event in live] == [Exit(0, "exit status 0", None)]


def test_attach_tells_of_what_is_not_kept_any_more(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=LONG, ring_from=1150, cuts=[1450, 1200])
    process = sandbox.start("x")
    process.disconnect()
    events = [event for event in sandbox.attach(process.pid)]
    assert events[0] == Gap(1150)
    assert b"".join(event.data for event in events if isinstance(event, Stdout)) == "€".encode() * 100
    with pytest.raises(NotFound):
        sandbox.attach(9999)


def test_a_live_stream_that_breaks_has_a_gap_of_unknown_size(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.scripts["x"] = Script(output=LONG, cuts=[1450, 0])
    process = sandbox.start("x")
    process.disconnect()
    live = sandbox.attach(process.pid, replay=False)
    assert [event for event in live] == [Gap(None), Exit(0, "exit status 0", None)]


def test_processes(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    assert sandbox.processes() == []
    daemon.scripts["ls -l"] = Script(hold=threading.Event())
    process = sandbox.start(["ls", "-l"])
    [found] = sandbox.processes()
    assert (found.pid, found.cmd, found.args) == (process.pid, "ls", ("-l",))
    process.kill()


def test_a_terminal(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    hold = threading.Event()
    daemon.scripts[wire.DEFAULT_SHELL[2]] = Script(output=[("pty", b"$ ")], hold=hold)
    pty = sandbox.pty.create(100, 30, envs={"A": "1", "TERM": "vt100"})
    start = daemon.processes[100].start
    assert start["pty"] == {"size": {"cols": 100, "rows": 30}}
    assert start["process"]["envs"] == {"TERM": "vt100", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "A": "1"}
    assert pty.__next__() == PtyOutput(b"$ ", "$ ")
    pty.send("ls\r")
    pty.resize(120, 40)
    assert bytes(daemon.processes[100].stdin) == b"ls\r"
    assert daemon.processes[100].sizes == [{"cols": 120, "rows": 40}]
    pty.disconnect()
    again = sandbox.pty.attach(pty.pid)
    assert again.__next__() == PtyOutput(b"$ ", "$ ")
    again.kill()
    assert (again.wait()).exit_code == -1


def test_connections_are_used_again(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    for _ in range(20):
        sandbox.run("true")
    assert daemon.connections <= 2
