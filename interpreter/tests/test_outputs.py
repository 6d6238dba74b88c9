"""What kernels say, as lines."""

from __future__ import annotations

from typing import Any

import pytest

from atoll_interpreter import outputs
from atoll_interpreter.outputs import translate


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"header": {"msg_type": kind, "date": "2026-01-01T00:00:00Z"}, "content": content}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'abc'", "abc"),
        ('"it\'s"', "it's"),
        ("''", ""),
        ("'", "'"),
        ("'a\"", "'a\""),
        ("[1, 'a']", "[1, 'a']"),
        ("''x''", "'x'"),
        ("", ""),
    ],
)
def test_a_text_loses_one_pair_of_quotes(text: str, shown: str) -> None:
    [told] = translate(message("execute_result", data={"text/plain": text}))
    assert told == {"type": "result", "is_main_result": True, "text": shown}


def test_what_is_displayed_is_no_main_result_and_keeps_what_it_knows() -> None:
    data = {"text/plain": "<Figure>", "image/png": "iVBO\n", "e2b/chart": {"type": "line"}, "application/x-other": 1}
    [told] = translate(message("display_data", data=data))
    assert told == {
        "type": "result",
        "is_main_result": False,
        "text": "<Figure>",
        "png": "iVBO",
        "chart": {"type": "line"},
        "extra": {"application/x-other": 1},
    }


def test_a_long_text_comes_in_pieces() -> None:
    told = list(translate(message("stream", name="stderr", text="x" * (outputs.MAX_TEXT + 1))))
    assert [(line["type"], len(line["text"])) for line in told] == [("stderr", outputs.MAX_TEXT), ("stderr", 1)]
    assert told[0]["timestamp"] == "2026-01-01T00:00:00Z"


def test_a_result_that_is_too_large_is_told_about() -> None:
    told = outputs.result({"text/plain": "x" * (outputs.MAX_RESULT_BYTES + 1)}, is_main=True)
    assert len(told["text"]) < 200
    assert "is not sent" in told["text"]


def test_errors_and_counts() -> None:
    [failed] = translate(message("error", ename="ValueError", evalue="bad", traceback=["one", "two"]))
    assert failed == {"type": "error", "name": "ValueError", "value": "bad", "traceback": "one\ntwo"}
    assert list(translate(message("execute_input", execution_count=7))) == [
        {"type": "number_of_executions", "execution_count": 7}
    ]
    assert not list(translate(message("status", execution_state="busy")))
