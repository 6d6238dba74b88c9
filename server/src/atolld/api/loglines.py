"""The agent's log, line by line; every byte of it is the guest's word."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

MAX_TEXT = 4096
MAX_FIELDS = 32


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """One line. `timestamp` as the guest wrote it; None when it wrote none."""

    timestamp: str | None
    level: str
    message: str
    fields: dict[str, object] = field(default_factory=dict)


def parse_lines(log: bytes) -> list[ParsedLine]:
    """The whole lines of `log`; one that is not a JSON object becomes a message of its own."""
    return [parse_line(line) for line in log.split(b"\n") if line.strip()]


def parse_line(line: bytes) -> ParsedLine:
    """One line; texts are cut at 4096 characters and fields at 32."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return ParsedLine(None, "info", line.decode(errors="replace")[:MAX_TEXT])
    timestamp = parsed.pop("timestamp", None)
    level = _text(parsed.pop("level", "info"))
    message = _text(parsed.pop("message", ""))
    fields = {str(name)[:128]: _value(value) for name, value in list(parsed.items())[:MAX_FIELDS]}
    return ParsedLine(_text(timestamp) if timestamp is not None else None, level, message, fields)


def _text(value: object) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:MAX_TEXT]


def _value(value: object) -> object:
    # Numbers that JSON cannot hold (NaN, Infinity) and nested values go out as text.
    return value if isinstance(value, (bool, int)) or value is None else _text(value)
