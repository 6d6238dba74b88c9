"""The lines of a running execution, put together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll._code_models import CodeError, CodeResult, Execution, Logs
from atoll._errors import LimitExceeded

# The port of the code interpreter in the sandbox.
PORT = 49999
TEMPLATE = "code-interpreter-v1"

# As for commands: a sandbox could otherwise make its owner's program take any memory.
MAX_COLLECTED_CHARS = 256 * 1024 * 1024


class ExecutionReader:
    """Takes the lines of one execution in order; `ended` once the last one came."""

    def __init__(self) -> None:
        self.ended = False
        self._stdout: list[str] = []
        self._stderr: list[str] = []
        self._results: list[CodeResult] = []
        self._error: CodeError | None = None
        self._count: int | None = None
        self._size = 0

    def feed(self, line: Mapping[str, Any], size: int) -> tuple[str, str | CodeResult] | None:
        """What a callback is told of `line`, of `size` characters: "stdout", "stderr" or "result", and its value.

        Raises LimitExceeded. Lines of an unknown type mean nothing, so that a newer template can say more.
        """
        kind = line.get("type")
        if kind in ("stdout", "stderr"):
            text = str(line.get("text", ""))
            self._grow(size)
            (self._stdout if kind == "stdout" else self._stderr).append(text)
            return str(kind), text
        if kind == "result":
            result = CodeResult.from_json(line)
            self._grow(size)
            self._results.append(result)
            return "result", result
        if kind == "error":
            self._error = CodeError(*(str(line.get(name) or "") for name in ("name", "value", "traceback")))
        elif kind == "number_of_executions":
            count = line.get("execution_count")
            self._count = count if isinstance(count, int) else None
        elif kind == "end_of_execution":
            self.ended = True
        return None

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_COLLECTED_CHARS:
            raise LimitExceeded(
                f"the code gave more than {MAX_COLLECTED_CHARS} characters of output and was interrupted; "
                "let it write to a file, and read that"
            )

    def execution(self) -> Execution:
        """All that came."""
        # The value of the last expression comes last, whatever was displayed after it.
        results = sorted(self._results, key=lambda result: result.is_main)
        return Execution(results, Logs(self._stdout, self._stderr), self._error, self._count)
