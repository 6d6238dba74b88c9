"""The code interpreter: executions, contexts, giving up, what breaks."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from sdk.tests.fake_daemon import FakeDaemon
from sdk.tests.fake_interpreter import END, CodeScript

from atoll import (
    AsyncSandbox,
    CodeContext,
    CodeError,
    CodeResult,
    Config,
    ConnectionFailed,
    Execution,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LimitExceeded,
    Logs,
    NotFound,
    SandboxEnded,
    Timeout,
    _code_wire,
)

OUT: dict[str, Any] = {"type": "stdout", "text": "é\n", "timestamp": "2026-11-23T05:00:00"}
ERR: dict[str, Any] = {"type": "stderr", "text": "careful", "timestamp": "2026-11-23T05:00:00"}
MAIN: dict[str, Any] = {"type": "result", "is_main_result": True, "text": "2"}
SHOWN: dict[str, Any] = {"type": "result", "is_main_result": False, "png": base64.b64encode(b"\x89PNG").decode()}
COUNT: dict[str, Any] = {"type": "number_of_executions", "execution_count": 3}
FAULT: dict[str, Any] = {"type": "error", "name": "ValueError", "value": "no", "traceback": "line 1"}
ALL = [COUNT, {"type": "keepalive"}, OUT, ERR, MAIN, SHOWN, {"type": "from_the_future"}, END]


@pytest.fixture
async def sandbox(daemon: FakeDaemon, config: Config) -> AsyncSandbox:
    return await AsyncSandbox.create(template="code-interpreter-v1", config=config)


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
async def test_an_execution_has_everything(pieces: int, daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["1+1"] = CodeScript(ALL, pieces=pieces)
    execution = await sandbox.code.run("1+1", envs={"A": "1"})
    assert execution == Execution(
        [CodeResult(png=b"\x89PNG"), CodeResult(text="2", is_main=True)], Logs(["é\n"], ["careful"]), None, 3
    )
    assert (execution.text, execution.stdout, execution.stderr, execution.ok) == ("2", "é\n", "careful", True)
    assert daemon.requests_to("/execute")[-1].json() == {
        "code": "1+1",
        "language": None,
        "context_id": None,
        "env_vars": {"A": "1"},
        "sandbox_envs": {"OWN": "1"},
    }


async def test_the_sandboxs_variables_are_asked_for_once(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    for _ in range(3):
        assert await sandbox.code.run("") == Execution([], Logs([], []))
    assert len(daemon.requests_to("/agent/envs")) == 1


async def test_an_error_of_the_code_is_a_value(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript([OUT, FAULT, END])
    execution = await sandbox.code.run("x")
    assert execution.error == CodeError("ValueError", "no", "line 1")
    assert (str(execution.error), execution.ok, execution.text) == ("ValueError: no", False, None)


async def test_callbacks_are_told_as_it_comes(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript(ALL)
    seen: list[object] = []
    await sandbox.code.run("x", on_stdout=seen.append, on_stderr=seen.append, on_result=seen.append)
    assert seen == ["é\n", "careful", CodeResult(text="2", is_main=True), CodeResult(png=b"\x89PNG")]


async def test_contexts(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    assert await sandbox.code.contexts() == []
    context = await sandbox.code.create_context("javascript", cwd="/tmp")
    other = await sandbox.code.create_context()
    assert (context, other) == (CodeContext("c0", "javascript", "/tmp"), CodeContext("c1", "python", "/home/user"))
    assert await sandbox.code.contexts() == [context, other]
    for named in (context, "c0"):
        assert (await sandbox.code.run("1", context=named)).ok
        assert daemon.requests_to("/execute")[-1].json()["context_id"] == "c0"
        await sandbox.code.restart_context(named)
    assert len(daemon.requests_to("/contexts/c0/restart")) == 2
    assert await sandbox.code.delete_context(context) is True
    assert await sandbox.code.delete_context(context) is False
    with pytest.raises(NotFound, match="Context c0 not found"):
        await sandbox.code.run("1", context=context)
    with pytest.raises(NotFound, match="Context c0 not found"):
        await sandbox.code.restart_context("c0")
    with pytest.raises(InvalidArgument, match="no kernel for cobol"):
        await sandbox.code.create_context("cobol")


async def test_what_cannot_be_asked_for(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidArgument, match="not both"):
        await sandbox.code.run("1", "python", "c0")
    with pytest.raises(InvalidArgument, match="timeout_s is 0"):
        await sandbox.code.run("1", timeout_s=0)
    assert daemon.requests_to("/execute") == []


async def test_time_that_is_over_interrupts_the_code(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript([OUT], hold=True)
    with pytest.raises(Timeout, match="longer than 0.2 s"):
        await sandbox.code.run("x", timeout_s=0.2)
    assert daemon.gave_up.wait(5)
    assert (await sandbox.code.run("1")).ok


async def test_an_error_in_a_callback_interrupts_the_code(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript([OUT], hold=True)

    def refuse(text: str) -> None:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match="é"):
        await sandbox.code.run("x", on_stdout=refuse)
    assert daemon.gave_up.wait(5)


async def test_a_connection_that_breaks(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript([OUT], cut=True)
    with pytest.raises(ConnectionFailed, match="interrupts the code"):
        await sandbox.code.run("x")
    daemon.code["x"] = CodeScript([OUT])
    with pytest.raises(ConnectionFailed, match="ended early"):
        await sandbox.code.run("x")
    assert len(daemon.requests_to("/execute")) == 2


async def test_a_sandbox_that_ends_meanwhile(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.code["x"] = CodeScript([OUT], cut=True)
    with pytest.raises(SandboxEnded):
        await sandbox.code.run("x", on_stdout=lambda _: daemon.sandboxes.clear())
    for use in (sandbox.code.contexts, lambda: sandbox.code.delete_context("c0"), lambda: sandbox.code.run("1")):
        with pytest.raises(SandboxEnded):
            await use()


async def test_a_sandbox_without_an_interpreter(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    closed = b'{"error": {"code": "port_not_open", "message": "nothing listens", "details": {"port": 49999}}}'
    for method, path in (("POST", "execute"), ("GET", "contexts")):
        daemon.answers[f"{method} /v1/sandboxes/{sandbox.id}/ports/49999/{path}"] = [(502, {}, closed)]
    with pytest.raises(FailedPrecondition, match="code-interpreter-v1"):
        await sandbox.code.run("1")
    with pytest.raises(FailedPrecondition, match="code-interpreter-v1"):
        await sandbox.code.contexts()


async def test_nonsense_and_floods(daemon: FakeDaemon, sandbox: AsyncSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"POST /v1/sandboxes/{sandbox.id}/ports/49999/execute"
    for nonsense in (b"[1]\n", b"{\n", b"\xff\n"):
        daemon.answers[path] = [(200, {}, nonsense)]
        with pytest.raises(Internal):
            await sandbox.code.run("1")
    monkeypatch.setattr(_code_wire, "MAX_COLLECTED_CHARS", 200)
    daemon.code["x"] = CodeScript([OUT] * 10, hold=True)
    with pytest.raises(LimitExceeded, match="200 characters"):
        await sandbox.code.run("x")
    assert daemon.gave_up.wait(5)
