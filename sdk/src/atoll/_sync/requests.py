# Generated from `src/atoll/_async/requests.py` by `scripts/unasync.py`: change that, not this.
"""Requests with a JSON body, and what all answers of the daemon have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from atoll._sync.http import Call
from atoll._errors import InvalidArgument, NotFound

# Starting, saving and reading memory may wait for room and for the disk.
SLOW_TIMEOUT_S = 300.0


def json_call(
    method: str,
    path: str,
    body: Mapping[str, object],
    *,
    is_safe: bool,
    headers: Mapping[str, str] | None = None,
    read_timeout_s: float | None = None,
) -> Call:
    """A request with `body`. Raises InvalidArgument when JSON cannot hold it."""
    try:
        content = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"a value cannot be sent as JSON: {error}") from error
    return Call(
        method,
        path,
        headers={"content-type": "application/json", **(headers or {})},
        content=content,
        read_timeout_s=read_timeout_s,
        is_safe=is_safe,
    )


def items(answer: Any) -> Sequence[Any]:
    """The `items` of an answer; none when it has no such list."""
    found = answer.get("items") if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def checked_id(id: str, what: str = "sandbox") -> str:
    """`id`. Raises NotFound for what can be none: it would reach another path of the daemon."""
    if not id or not id.replace("-", "").replace("_", "").isalnum():
        raise NotFound(f"there is no {what} {id[:80]!r}")
    return id
