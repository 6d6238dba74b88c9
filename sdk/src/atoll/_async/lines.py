"""Answers that come as a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from atoll._errors import ConnectionFailed, Internal, Timeout

MAX_LINE_BYTES = 4 * 1024 * 1024


async def json_lines(response: httpx.Response, what: str) -> AsyncIterator[Mapping[str, Any]]:
    """The objects of `response`, as they come; `what` names it in errors. The caller closes it.

    Raises Timeout, ConnectionFailed, and Internal when a line is no object.
    """
    rest = b""
    try:
        async for piece in response.aiter_raw():
            *whole, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise Internal("the daemon's answer has a line without end")
            for line in whole:
                yield _object(line)
    except httpx.TimeoutException as error:
        raise Timeout(f"{what} came to a halt; try again to go on") from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"{what}: the connection broke; try again to go on: {error}") from error


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Internal("the daemon's answer is not JSON") from error
    if not isinstance(value, dict):
        raise Internal("the daemon's answer is not a JSON object")
    return value
