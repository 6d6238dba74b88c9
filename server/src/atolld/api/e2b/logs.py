"""The agent's log as E2B's clients read it. Pure; everything in it was written inside the sandbox."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from atolld.api.loglines import ParsedLine, parse_lines
from atolld.foundation.clock import rfc3339

Level = Literal["debug", "info", "warn", "error"]

LEVELS: tuple[Level, ...] = ("debug", "info", "warn", "error")
_OTHER_NAMES: dict[str, Level] = {"trace": "debug", "warning": "warn", "fatal": "error", "critical": "error"}
LOGGER = "envd"


class LogEntry(BaseModel):
    """One line, taken apart."""

    timestamp: str
    message: str
    level: Level
    fields: dict[str, str]


class LogLine(BaseModel):
    """One line as text: a JSON object with level, logger, message and the fields."""

    timestamp: str
    line: str


class Logs(BaseModel):
    """Both forms of the same lines."""

    logs: list[LogLine]
    logEntries: list[LogEntry]


class LogsV2(BaseModel):
    """Lines."""

    logs: list[LogEntry]


def entries_of(log: bytes, started_at: float) -> list[LogEntry]:
    """The lines of `log`, in their order; one without a time has that of the line before, the first `started_at`."""
    entries: list[LogEntry] = []
    at = started_at
    for line in parse_lines(log):
        at = _moment(line.timestamp, at)
        entries.append(_entry(line, at))
    return entries


def line_of(entry: LogEntry) -> LogLine:
    """`entry` as a line of text."""
    packed = {**entry.fields, "level": entry.level, "logger": LOGGER, "message": entry.message}
    return LogLine(timestamp=entry.timestamp, line=json.dumps(packed))


def after(entries: Sequence[LogEntry], since_ms: int | None) -> list[LogEntry]:
    """Those at `since_ms` (Unix milliseconds) or later; None: all."""
    return [entry for entry in entries if since_ms is None or _millis(entry) >= since_ms]


def selected(
    entries: Sequence[LogEntry],
    cursor_ms: int | None,
    direction: Literal["forward", "backward"],
    level: Level | None,
    search: str | None,
) -> list[LogEntry]:
    """Those from the cursor on in `direction`, in that order, of `level` or above and with `search` in the message."""
    least = LEVELS.index(level) if level is not None else 0
    found = [
        entry for entry in entries if LEVELS.index(entry.level) >= least and (search is None or search in entry.message)
    ]
    if direction == "forward":
        return after(found, cursor_ms)
    return [entry for entry in reversed(found) if cursor_ms is None or _millis(entry) <= cursor_ms]


def _entry(line: ParsedLine, at: float) -> LogEntry:
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in line.fields.items()}
    named = line.level.lower()
    level = next((known for known in LEVELS if known == named), _OTHER_NAMES.get(named, "info"))
    return LogEntry(timestamp=rfc3339(at), message=line.message, level=level, fields=fields)


def _moment(timestamp: str | None, otherwise: float) -> float:
    try:
        moment = datetime.fromisoformat(timestamp or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return otherwise


def _millis(entry: LogEntry) -> int:
    return round(datetime.fromisoformat(entry.timestamp).timestamp() * 1000)
