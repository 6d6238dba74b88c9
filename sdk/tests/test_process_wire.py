"""Process messages: written and read."""

from __future__ import annotations

import base64

import pytest

from atoll import Exit, Internal, InvalidArgument, PtyOutput, Stderr, Stdout
from atoll._process_wire import EventReader, display, input_message, pty_size, split_command, start_request


def data(**streams: bytes) -> dict[str, object]:
    return {"event": {"data": {name: base64.b64encode(value).decode() for name, value in streams.items()}}}


@pytest.mark.parametrize(
    ("cmd", "expected"),
    [
        ("echo $A", ("/bin/sh", ["-c", "echo $A"])),
        (["ls"], ("ls", [])),
        (("a b", "c d"), ("a b", ["c d"])),
    ],
)
def test_commands(cmd: str | list[str], expected: tuple[str, list[str]]) -> None:
    assert split_command(cmd) == expected


@pytest.mark.parametrize("cmd", ["", "  ", [], [""], ["a", 1]])
def test_no_commands(cmd: str | list[str]) -> None:
    with pytest.raises(InvalidArgument):
        split_command(cmd)


def test_a_start_request_has_only_what_was_asked_for() -> None:
    request = start_request(["a"], cwd=None, envs=None, tag="t", stdin=False)
    assert request == {"process": {"cmd": "a", "args": [], "envs": {}}, "tag": "t", "stdin": False}
    request = start_request("a", cwd="/w", envs={"A": "1"}, tag="t", stdin=True, pty=(80, 24))
    assert request["process"] == {"cmd": "/bin/sh", "args": ["-c", "a"], "envs": {"A": "1"}, "cwd": "/w"}
    assert request["pty"] == {"size": {"cols": 80, "rows": 24}}


@pytest.mark.parametrize(("cols", "rows"), [(0, 1), (1, 0), (65536, 1), (1, -5)])
def test_terminal_sizes_out_of_range(cols: int, rows: int) -> None:
    with pytest.raises(InvalidArgument, match="must be between 1 and 65535"):
        pty_size(cols, rows)


def test_input() -> None:
    assert input_message(7, b"\xff", pty=False) == {"process": {"pid": 7}, "input": {"stdin": "/w=="}}
    assert input_message(7, b"\xff", pty=True) == {"process": {"pid": 7}, "input": {"pty": "/w=="}}


def test_a_whole_stream() -> None:
    reader = EventReader()
    assert reader.read({"event": {"start": {"pid": 5}}}) == []
    assert reader.pid == 5
    euro = "€".encode()
    assert reader.read(data(stdout=b"a" + euro[:1])) == [Stdout(b"a" + euro[:1], "a")]
    assert reader.read(data(stderr=b"x")) == [Stderr(b"x", "x")]
    assert reader.read({"event": {"keepalive": {}}}) == []
    assert reader.read(data(stdout=euro[1:])) == [Stdout(euro[1:], "€")]
    assert reader.read(data(pty=b"\xff")) == [PtyOutput(b"\xff", "\ufffd")]
    assert reader.received_bytes == 6
    assert reader.read(data(stdout=euro[:2])) == [Stdout(euro[:2], "")]
    end = {"event": {"end": {"exited": True, "status": "exit status 0"}}}
    assert reader.read(end) == [Stdout(b"", "\ufffd"), Exit(0, "exit status 0", None)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({}, Exit(0, "exit status 0", None)),
        ({"exitCode": 7, "error": "exit status 7"}, Exit(7, "exit status 7", "exit status 7")),
        ({"exitCode": -1, "status": "signal: killed"}, Exit(-1, "signal: killed", "signal: killed")),
        ({"exitCode": 0, "error": "odd"}, Exit(0, "exit status 0", None)),
    ],
)
def test_ends(end: dict[str, object], expected: Exit) -> None:
    assert EventReader().read({"event": {"end": end}}) == [expected]


@pytest.mark.parametrize(
    "message",
    [
        {"event": {"start": {"pid": "7"}}},
        {"event": {"start": {"pid": True}}},
        {"event": {"data": {"stdout": 7}}},
        {"event": {"data": {"stdout": "é"}}},
        {"event": {"data": {"stdout": "a"}}},
        {"event": {"end": {"exitCode": "0"}}},
    ],
)
def test_nonsense_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(Internal):
        EventReader().read(message)


@pytest.mark.parametrize("message", [{}, {"event": None}, {"event": {}}, {"event": {"news": {}}}, {"other": 1}])
def test_what_is_unknown_is_passed_over(message: dict[str, object]) -> None:
    assert EventReader().read(message) == []


def test_commands_are_shown_as_typed_and_shortened() -> None:
    assert display(["echo", "a b"]) == "echo 'a b'"
    assert len(display("x" * 1000)) == 200
