"""Text that was made to break, or to cost."""

from __future__ import annotations

import time

import pytest

from atolld.foundation.errors import InvalidArgument

from .reading import bound, plan, said

MIB = 1024 * 1024
PATIENCE_S = 20.0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM a\nRUN b\0c", "line 2: it has a NUL byte"),
        ("FROM a\nRUN \ud800", "not valid Unicode"),
        ("FROM a\n" + "#" * MIB, "1048576 are the most"),
        ("# escape=x\nFROM a", "line 1.*escape"),
        ("# escape=`\n# escape=`\nFROM a", "only one escape"),
        ("# syntax=evil.example/frontend\nFROM a", "line 1: it wants the frontend"),
        ("# syntax=" + "x " * 2000 + "\nFROM a", "a directive of more than"),
    ],
)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        plan(text)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffFROM a\nRUN b",
        "FROM a\r\nRUN b\r\n",
        "\n\n  # c\n\nFROM a\n  RUN b",
        "# syntax=docker/dockerfile:1.7-labs\nFROM a\nRUN b",
        "# syntax=docker.io/docker/dockerfile@sha256:ab\n# escape=`\nFROM a\nRUN b",
        "# check=skip=all\nFROM a\nRUN b",
        "from a\nrun b",
        "FROM a\nRUN b\\\n",
    ],
)
def test_forms_that_are_fine(text: str) -> None:
    assert [said(step) for step in bound(text)[0]] == ["b"]


def test_scripts_of_windows_checkouts_run() -> None:
    assert [said(step) for step in bound("FROM a\r\nRUN <<EOF\r\nb\r\nc\r\nEOF\r\n")[0]] == ["b\nc\n"]


def nested(open: str, close: str, depth: int) -> str:
    return open * depth + close * depth


DOUBLING = "".join(f"ENV v{n + 1}=$v{n}$v{n}\n" for n in range(40))
HOSTILE = {
    "100,000 lines": "FROM a\n" + "RUN b\n" * 100_000,
    "100,000 comments": "FROM a\n" + "# b\n" * 100_000,
    "100,000 continuations": "FROM a\nRUN b" + "\\\n c" * 100_000,
    "one long line": "FROM a\nRUN " + "b" * (MIB - 100),
    "one long word": "FROM a\nENV b=" + "c" * (MIB - 100),
    "deep expansion": "FROM a\nENV b=" + nested("${c:-", "}", 100_000),
    "deep JSON": "FROM a\nRUN " + "[" * 200_000,
    "deep JSON of a copy": "FROM a\nCOPY " + nested("[", "]", 200_000),
    "many references": "FROM a\nENV b=" + "c" * 1000 + "\nENV d=" + "$b" * 300_000,
    "doubling": "FROM a\nENV v0=aaaaaaaaaa\n" + DOUBLING,
    "doubling before FROM": "ARG v0=aaaaaaaaaa\n" + DOUBLING.replace("ENV", "ARG") + "FROM a",
    "pattern": "FROM a\nENV b=" + "c" * 1000 + "\nENV d=${b##*c*c*c*c*c*c*d}",
    "pattern of variables": "FROM a\nENV s=*c*c*c*c*c*c*d\nENV b=" + "c" * 1000 + "\nENV d=${b##$s}",
    "long pattern": "FROM a\nENV b=c\nENV d=${b%" + "x" * 500_000 + "}",
    "many patterns": "FROM a\nENV b=" + "c" * 2000 + "\n" + "LABEL d=${b/*d/}${b/*d/}${b/*d/}${b/*d/}\n" * 1500,
    "many quotes": "FROM a\nRUN b " + "\"'" * 200_000 + " <<EOF",
    "many heredocs": "FROM a\nRUN b " + "<<c " * 50_000 + "\n" + "c\n" * 50_000,
    "many flags": "FROM a\nRUN " + "--mount=type=secret,id=b " * 20_000 + "c",
    "many fields": "FROM a\nRUN --mount=type=secret," + "b=," * 200_000 + " c",
    "many sources": "FROM a\nCOPY " + "b " * 300_000 + "/c/",
    "many ports": "FROM a\n" + "EXPOSE 1-900\n" * 1500,
    "spaces": "FROM a\nRUN " + " " * (MIB - 100) + "b",
    "a directive of spaces": "#" + " " * (MIB - 100) + "\nFROM a",
    "a directive without end": "# syntax=" + "x" * (MIB - 100),
    "backslashes": "FROM a\nRUN " + "\\" * (MIB - 100),
    "many stages": "FROM a\n" * 100_000,
    "unicode": "FROM a\nENV b=" + "\U0001f600" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bounded(name: str) -> None:
    begun = time.monotonic()
    try:
        made = plan(HOSTILE[name])
        steps, _ = made.stages[-1].bound({}, made.config)
        assert len(steps) <= 500
    except InvalidArgument as error:
        assert len(error.message) < 2000
    assert time.monotonic() - begun < PATIENCE_S
