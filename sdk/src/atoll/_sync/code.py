# Generated from `src/atoll/_async/code.py` by `scripts/unasync.py`: change that, not this.
"""Code run by the code interpreter of a sandbox, in contexts that keep their variables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from atoll import _threads as backend
from atoll._sync.guest import STREAM_READ_TIMEOUT_S, Guest
from atoll._sync.http import Call
from atoll._sync.requests import SLOW_TIMEOUT_S, json_call
from atoll._code_models import CodeContext, CodeResult, Execution
from atoll._code_wire import PORT, TEMPLATE, ExecutionReader
from atoll._envelope import StreamBroken
from atoll._errors import (
    AtollError,
    ConnectionFailed,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    SandboxEnded,
    Timeout,
)

# One result may be this large; the interpreter itself sends less.
MAX_LINE_BYTES = 128 * 1024 * 1024
_ENDING_LOOKS, _ENDING_PAUSE_S = 50, 0.1


class Code:
    """`Sandbox.code`. The sandbox must have a code interpreter: the template "code-interpreter-v1".

    Code runs in a context. Each language has one from the start, which `run` uses; contexts of your own keep their
    variables apart. In one context, one piece of code runs after the other.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._envs: Mapping[str, str] | None = None

    def run(
        self,
        code: str,
        language: str | None = None,
        context: CodeContext | str | None = None,
        *,
        on_stdout: backend.Callback[str] | None = None,
        on_stderr: backend.Callback[str] | None = None,
        on_result: backend.Callback[CodeResult] | None = None,
        envs: Mapping[str, str] | None = None,
        timeout_s: float | None = 300,
    ) -> Execution:
        """Run code to its end. What the code does wrong is in `Execution.error`; only what cannot run is raised.

        language: "python" (when None), "javascript", "typescript", "bash", "r" or "java", as far as the template has
        them; or context: one from `create_context`, or its id. on_stdout, on_stderr: given each piece of text as it
        comes; on_result: each value as it is displayed. envs: variables for this execution only.
        timeout_s: seconds, waiting for earlier code in the same context included; None for no limit.

        Whoever gives up (by the timeout, a cancellation, Ctrl-C, an error in a callback) interrupts the code; the
        context keeps its variables.

        Raises Timeout, NotFound for an unknown context, InvalidArgument for an unknown language,
        FailedPrecondition when the sandbox has no interpreter, ConnectionFailed when the connection broke (the code is
        interrupted then), LimitExceeded for more than 256 MiB of output.
        """
        if language is not None and context is not None:
            raise InvalidArgument("give a language or a context, not both: a context has one language")
        if timeout_s is not None and timeout_s <= 0:
            raise InvalidArgument(f"timeout_s is {timeout_s}; it must be more than 0, or None for no limit")
        callbacks = {"stdout": on_stdout, "stderr": on_stderr, "result": on_result}
        try:
            with backend.Deadline(timeout_s) as deadline:
                call = self._call(
                    "POST",
                    "/execute",
                    {
                        "code": code,
                        "language": language,
                        "context_id": _id(context) if context is not None else None,
                        "env_vars": dict(envs) if envs else None,
                        "sandbox_envs": dict(self._sandbox_envs()),
                    },
                    read_timeout_s=STREAM_READ_TIMEOUT_S,
                )
                response = self._open(call)
                try:
                    deadline.watch(response)
                    return self._read(response, callbacks)
                finally:
                    response.close()
        except TimeoutError:
            raise Timeout(f"the code ran for longer than {timeout_s} s and was interrupted") from None

    def create_context(self, language: str | None = None, *, cwd: str | None = None) -> CodeContext:
        """A new context with a kernel of its own.

        language: as in `run`. cwd: the directory that its code starts in; None for /home/user. Raises InvalidArgument
        for a language that the template does not have.
        """
        body = {name: value for name, value in (("language", language), ("cwd", cwd)) if value is not None}
        return CodeContext.from_json(self._json(self._call("POST", "/contexts", body)))

    def contexts(self) -> Sequence[CodeContext]:
        """All contexts, the languages' own ones included."""
        answer = self._json(Call("GET", self._path("/contexts"), is_safe=True))
        return [CodeContext.from_json(item) for item in answer or []]

    def restart_context(self, context: CodeContext | str) -> None:
        """Start its kernel anew: its variables are gone, and what runs in it ends with an error. Raises NotFound."""
        self._json(self._call("POST", f"/contexts/{quote(_id(context), safe='')}/restart", {}))

    def delete_context(self, context: CodeContext | str) -> bool:
        """End it, and what runs in it. False when it was gone."""
        try:
            self._json(Call("DELETE", self._path(f"/contexts/{quote(_id(context), safe='')}"), is_safe=True))
        except SandboxEnded:
            raise
        except NotFound:
            return False
        return True

    def _sandbox_envs(self) -> Mapping[str, str]:
        # Kernels that come out of a template's memory started before this sandbox was given its variables.
        if self._envs is None:
            answer = self._guest.json(Call("GET", self._guest.agent_path("envs"), is_safe=True))
            self._envs = {str(name): str(value) for name, value in (answer or {}).items()}
        return self._envs

    def _read(self, response: httpx.Response, callbacks: Mapping[str, Any]) -> Execution:
        reader = ExecutionReader()
        try:
            for raw in _lines(response):
                told = reader.feed(_object(raw), len(raw))
                callback = callbacks[told[0]] if told is not None else None
                if told is not None and callback is not None:
                    backend.call(callback, told[1])
        except StreamBroken as error:
            raise self._lost(str(error)) from error
        if not reader.ended:
            raise self._lost("it ended early")
        return reader.execution()

    def _lost(self, why: str) -> AtollError:
        try:
            for _ in range(_ENDING_LOOKS):
                found = self._guest.json(Call("GET", self._guest.own_path(), is_safe=True))
                if not isinstance(found, dict) or found.get("state") != "stopping":
                    break
                # It is being ended, which is why the connection broke; how it ended is known when it has.
                backend.sleep(_ENDING_PAUSE_S)
        except SandboxEnded as error:
            return error
        except AtollError:
            # That the connection broke is certain without knowing more.
            pass
        return ConnectionFailed(f"the connection to the code interpreter broke, which interrupts the code: {why}")

    def _path(self, path: str) -> str:
        return self._guest.own_path(f"/ports/{PORT}{path}")

    def _call(
        self, method: str, path: str, body: Mapping[str, object], *, read_timeout_s: float = SLOW_TIMEOUT_S
    ) -> Call:
        return json_call(method, self._path(path), body, is_safe=False, read_timeout_s=read_timeout_s)

    def _open(self, call: Call) -> httpx.Response:
        try:
            return self._guest.open(call)
        except AtollError as error:
            raise _explained(error) from None

    def _json(self, call: Call) -> Any:
        try:
            return self._guest.json(call)
        except AtollError as error:
            raise _explained(error) from None


def _lines(response: httpx.Response) -> Iterator[bytes]:
    rest = bytearray()
    try:
        for piece in response.iter_raw():
            searched = len(rest)
            rest += piece
            start = 0
            while (end := rest.find(b"\n", max(start, searched))) >= 0:
                if end > start:
                    yield bytes(rest[start:end])
                start = end + 1
            del rest[:start]
            if len(rest) > MAX_LINE_BYTES:
                raise Internal(f"the code interpreter sent a line of more than {MAX_LINE_BYTES} bytes")
    except (httpx.TransportError, httpx.StreamError) as error:
        raise StreamBroken(str(error) or type(error).__name__) from error


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Internal("the code interpreter's answer is not JSON") from error
    if not isinstance(value, dict):
        raise Internal("the code interpreter's answer is not a JSON object")
    return value


def _id(context: CodeContext | str) -> str:
    return context if isinstance(context, str) else context.id


def _explained(error: AtollError) -> AtollError:
    if error.details.get("port") == PORT:
        return FailedPrecondition(
            f"this sandbox has no code interpreter: make it with template={TEMPLATE!r}", request_id=error.request_id
        )
    return error
