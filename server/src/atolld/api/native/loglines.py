"""The agent's log as the native API shows it."""

from __future__ import annotations

from atolld.api import loglines
from atolld.api.native.schemas import LogLine


def parse_lines(log: bytes) -> list[LogLine]:
    """The whole lines of `log`; one that is not a JSON object becomes a message of its own."""
    return [
        LogLine(timestamp=line.timestamp, level=line.level, message=line.message, fields=line.fields)
        for line in loglines.parse_lines(log)
    ]
