from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from atolld.api.entry import current_request
from atolld.daemon import logs

KEY = "e2b_" + "a1" * 20


@pytest.fixture(autouse=True)
def restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def said(format: Literal["json", "console"] = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(format, level, logging.StreamHandler(stream))
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_its_fields() -> None:
    stream = said()
    logging.getLogger("atolld.x").info("made %s", "it", extra={"sandbox_id": "i1"})
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "info", "logger": "atolld.x", "sandbox_id": "i1", "message": "made it"}


def test_lines_of_a_request_bear_its_id() -> None:
    stream = said()
    token = current_request.set("req_1")
    logging.getLogger("atolld.x").info("a")
    current_request.reset(token)
    logging.getLogger("atolld.x").info("b")
    assert [line.get("request_id") for line in lines(stream)] == ["req_1", None]


def test_an_exception_is_told_in_its_line() -> None:
    stream = said()
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("atolld.x").exception("failed")
    (line,) = lines(stream)
    assert line["message"] == "failed" and "ValueError: why" in line["exception"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_never_get_out(format: Literal["json", "console"]) -> None:
    stream = said(format)
    log = logging.getLogger("atolld.x")
    log.info("with %s", KEY)
    log.info("fields", extra={"api_key": KEY, "agent_token": "t0ps3cret", "envs": {"A": "t0ps3cret"}, "note": KEY})
    try:
        raise ValueError(KEY)
    except ValueError:
        log.exception("failed")
    assert KEY not in stream.getvalue() and "t0ps3cret" not in stream.getvalue()
    assert logs.REDACTED in stream.getvalue()


def test_the_level_holds() -> None:
    stream = said(level="warning")
    logging.getLogger("atolld.x").info("no")
    logging.getLogger("uvicorn.error").info("no")
    logging.getLogger("atolld.x").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]


def test_a_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "atolld.log"
    handler = logs.to_file(path, 10_000)
    logs.configure("json", "info", handler)
    for _ in range(500):
        logging.getLogger("atolld.x").info("x" * 100)
    handler.close()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() == {"atolld.log", "atolld.log.1"} and max(sizes.values()) <= 10_000
