from __future__ import annotations

import pytest

from atolld.api.e2b.logs import entries_of


@pytest.mark.parametrize(
    ("written", "level"),
    [("INFO", "info"), ("trace", "debug"), ("WARNING", "warn"), ("fatal", "error"), ("odd", "info"), ("", "info")],
)
def test_levels(written: str, level: str) -> None:
    (entry,) = entries_of(f'{{"level": "{written}", "message": "x"}}'.encode(), 0.0)
    assert entry.level == level


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    log = b'plain\n{"timestamp": "2026-01-01T00:00:00.5+01:00"}\n{"timestamp": "never"}\n{"timestamp": 7}\n'
    assert [entry.timestamp for entry in entries_of(log, 1.5)] == [
        "1970-01-01T00:00:01.500Z",
        *["2025-12-31T23:00:00.500Z"] * 3,
    ]


def test_fields_are_text() -> None:
    (entry,) = entries_of(b'{"n": 1, "b": true, "s": "x", "o": {"a": []}, "z": null}', 0.0)
    assert entry.fields == {"n": "1", "b": "true", "s": "x", "o": '{"a": []}', "z": "null"}
