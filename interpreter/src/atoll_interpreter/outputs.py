"""What kernels say, as the lines that clients read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Output = dict[str, Any]

# A stream's text is cut into lines of at most this many characters.
MAX_TEXT = 256 * 1024
# Beyond it a result is told about, and not sent.
MAX_RESULT_BYTES = 64 * 1024 * 1024

_FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
_BASE64 = frozenset(("image/png", "image/jpeg", "application/pdf"))

END: Output = {"type": "end_of_execution"}
KEEPALIVE: Output = {"type": "keepalive"}


def stream(name: str, text: str, timestamp: str) -> Iterator[Output]:
    """What was written to `name` (stdout or stderr), in pieces of a bounded size. `timestamp`: ISO 8601."""
    for start in range(0, len(text), MAX_TEXT):
        yield {"type": name, "text": text[start : start + MAX_TEXT], "timestamp": timestamp}


def result(data: Mapping[str, Any], *, is_main: bool) -> Output:
    """A displayed value, or with `is_main` the value of the code's last expression."""
    told: Output = {"type": "result", "is_main_result": is_main}
    extra: dict[str, Any] = {}
    size = 0
    for mime, value in data.items():
        joined = "".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value
        if mime in _BASE64 and isinstance(joined, str):
            joined = joined.strip()
        size += len(joined) if isinstance(joined, str) else 0
        field = _FIELDS.get(mime)
        if field is None:
            extra[mime] = joined
        else:
            told[field] = unquoted(joined) if field == "text" and isinstance(joined, str) else joined
    if size > MAX_RESULT_BYTES:
        return {
            "type": "result",
            "is_main_result": is_main,
            "text": f"(a result of {size} characters is not sent: the limit is {MAX_RESULT_BYTES}; write it to a file)",
        }
    if extra:
        told["extra"] = extra
    return told


def unquoted(text: str) -> str:
    """`text` without one pair of quotes around it: a string's value is shown as it is, not as code."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def error(name: str, value: str, traceback: list[str] | str = "") -> Output:
    """The code failed."""
    joined = traceback if isinstance(traceback, str) else "\n".join(traceback)
    return {"type": "error", "name": name, "value": value, "traceback": joined}


def count(execution_count: int) -> Output:
    """How many times code ran in this context, this one included."""
    return {"type": "number_of_executions", "execution_count": execution_count}


def translate(message: Mapping[str, Any]) -> Iterator[Output]:
    """The lines that one message of a kernel's broadcasts becomes; none for what clients do not see."""
    content = message["content"]
    kind = message["header"]["msg_type"]
    if kind == "stream":
        date = message["header"].get("date")
        stamp = date.isoformat() if hasattr(date, "isoformat") else str(date or "")
        yield from stream("stderr" if content["name"] == "stderr" else "stdout", content["text"], stamp)
    elif kind in ("display_data", "execute_result"):
        yield result(content.get("data") or {}, is_main=kind == "execute_result")
    elif kind == "error":
        yield error(content.get("ename", ""), content.get("evalue", ""), content.get("traceback") or "")
    elif kind == "execute_input":
        yield count(content["execution_count"])
