import json

import pytest

from atolld.api.loglines import MAX_FIELDS, MAX_TEXT, ParsedLine, parse_line, parse_lines


@pytest.mark.parametrize(
    "line, expected",
    [
        (b"text", ParsedLine(timestamp=None, level="info", message="text", fields={})),
        (b"[1]", ParsedLine(timestamp=None, level="info", message="[1]", fields={})),
        (b"\xff", ParsedLine(timestamp=None, level="info", message="\ufffd", fields={})),
        (b"{}", ParsedLine(timestamp=None, level="info", message="", fields={})),
        (
            b'{"timestamp": 7, "level": null, "message": [1], "n": NaN, "o": {"a": 1}, "b": true}',
            ParsedLine(timestamp="7", level="null", message="[1]", fields={"n": "NaN", "o": '{"a": 1}', "b": True}),
        ),
    ],
)
def test_whatever_a_guest_writes_is_a_line(line: bytes, expected: ParsedLine) -> None:
    assert parse_line(line) == expected


def test_lines_are_bounded() -> None:
    big = {"message": "x" * 100_000, **{f"f{n}": "y" * 100_000 for n in range(100)}}
    line = parse_line(json.dumps(big).encode())
    assert len(line.message) == MAX_TEXT and len(line.fields) == MAX_FIELDS
    assert all(len(str(value)) <= MAX_TEXT for value in line.fields.values())
    assert len(parse_line(b"[" * 100_000).message) == MAX_TEXT


def test_empty_lines_are_none() -> None:
    assert [one.message for one in parse_lines(b"a\n\n  \nb")] == ["a", "b"]
