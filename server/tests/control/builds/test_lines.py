"""Output in pieces, as the lines a log has."""

from __future__ import annotations

import pytest

from atolld.control.builds.lines import HIDDEN, MAX_LINE, Lines


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\nt", b"wo"], ["one", "two"]),
        ([b""], []),
        ([b"\n\n"], ["", ""]),
        ([b"10%\r50%\r100%\n"], ["100%"]),
        ([b"10%\r", b"50%\r", b"100%\r\n"], ["100%"]),
        ([b"windows\r\n"], ["windows"]),
        ([b"windows\r", b"\n"], ["windows"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"bell\x07 and \x00\n"], ["bell\ufffd and \ufffd"]),
        ([b"\xc3", b"\xa9\n"], ["é"]),
        ([b"x" * 100_000, b"\n"], ["x" * MAX_LINE]),
    ],
)
def test_lines(pieces: list[bytes], told: list[str]) -> None:
    found: list[str] = []
    lines = Lines(found.append)
    for piece in pieces:
        lines.feed("stdout", piece)
    lines.end()
    assert found == told


def test_streams_do_not_mix_within_a_line() -> None:
    found: list[str] = []
    lines = Lines(found.append)
    lines.feed("stdout", b"out")
    lines.feed("stderr", b"err\n")
    lines.feed("stdout", b"put\n")
    assert found == ["err", "output"]


def test_only_the_last_lines_are_kept() -> None:
    lines = Lines(lambda _: None)
    lines.feed("stdout", b"".join(b"%d\n" % number for number in range(100)))
    assert list(lines.last) == [str(number) for number in range(80, 100)]


@pytest.mark.parametrize(
    ("secrets", "text", "told"),
    [
        (["hunter22"], "the word is hunter22!", f"the word is {HIDDEN}!"),
        (["hunter22", "hunter22-long"], "hunter22-long hunter22", f"{HIDDEN} {HIDDEN}"),
        (["first line\nsecond line"], "here is second line", f"here is {HIDDEN}"),
        (["abc"], "abc", "abc"),
        ([""], "abc", "abc"),
    ],
)
def test_secrets_are_hidden(secrets: list[str], text: str, told: str) -> None:
    found: list[str] = []
    lines = Lines(found.append, secrets)
    lines.feed("stdout", text.encode() + b"\n")
    assert found == [told]
    assert list(lines.last) == [told]
