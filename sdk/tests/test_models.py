"""Answers read into values."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from atoll import FileInfo, Internal, LogEntry, Metrics, ProcessInfo, SandboxInfo, WatchEvent
from atoll._models import parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T05:00:00Z", datetime(2026, 11, 23, 5, tzinfo=timezone.utc)),
        ("2026-11-23T05:00:00.5Z", datetime(2026, 11, 23, 5, 0, 0, 500_000, tzinfo=timezone.utc)),
        ("2026-11-23T05:00:00.123456789Z", datetime(2026, 11, 23, 5, 0, 0, 123_456, tzinfo=timezone.utc)),
        ("2026-11-23T06:00:00.25+01:00", datetime(2026, 11, 23, 5, 0, 0, 250_000, tzinfo=timezone.utc)),
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_a_sandbox_with_fields_of_the_future_and_without_optional_ones() -> None:
    info = SandboxInfo.from_json({"id": "i1", "state": "running", "cpu": 2, "colour": "red"})
    assert (info.id, info.state, info.cpu, info.expires_at, info.end_reason) == ("i1", "running", 2.0, None, None)
    assert info.raw["colour"] == "red"


@pytest.mark.parametrize("kind", [SandboxInfo, ProcessInfo, FileInfo, Metrics, LogEntry])
@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_what_is_no_object_is_refused(kind: type[SandboxInfo], value: object) -> None:
    with pytest.raises(Internal):
        kind.from_json(value)


def test_a_file_with_64_bit_numbers_as_text() -> None:
    info = FileInfo.from_json({"name": "a", "path": "/a", "type": "FILE_TYPE_FILE", "size": "5000000000", "mode": 420})
    assert (info.type, info.size, info.mode) == ("file", 5_000_000_000, 0o644)
    assert FileInfo.from_json({"path": "/a", "type": "FILE_TYPE_SOCKET"}).type == "other"


def test_watch_events() -> None:
    assert WatchEvent.from_json({"type": "EVENT_TYPE_WRITE", "name": "a"}) == WatchEvent("write", "a")
    assert WatchEvent.from_json({"type": "EVENT_TYPE_OF_THE_FUTURE", "name": "a"}) is None
