"""Cursors between two pages of a list that is ordered by time and id: opaque text of URL-safe characters."""

from __future__ import annotations

import base64
import binascii
import json
import math

from atolld.foundation.errors import InvalidArgument

MAX_LIMIT = 100


def encode_place(at: float, id: str) -> str:
    """The place behind what was made at `at` (Unix seconds) and is called `id`."""
    packed = json.dumps([at, id], separators=(",", ":"))
    return base64.urlsafe_b64encode(packed.encode("ascii")).decode("ascii").rstrip("=")


def decode_place(cursor: str) -> tuple[float, str]:
    """Raises InvalidArgument when `cursor` was not made by `encode_place`; the id is not looked at."""
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, id = json.loads(packed)
        if isinstance(at, bool) or not isinstance(at, float | int) or not math.isfinite(at) or not isinstance(id, str):
            raise ValueError("not a place")
        return float(at), id
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise bad_cursor(cursor) from None


def bad_cursor(cursor: str) -> InvalidArgument:
    """The error of a cursor that is none of ours."""
    return InvalidArgument(
        f"the cursor {cursor[:80]!r} is not one that a list has returned; leave it out to begin anew"
    )


def check_limit(limit: int, most: int = MAX_LIMIT) -> int:
    """`limit`. Raises InvalidArgument when it is not 1 to `most`."""
    if not 1 <= limit <= most:
        raise InvalidArgument(f"limit is {limit}; it must be between 1 and {most}")
    return limit
