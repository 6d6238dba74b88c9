"""When a request may be sent again, and how long to wait before. Pure."""

from __future__ import annotations

import random

from atoll import _errors as errors

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0
MAX_RETRY_AFTER_S = 30.0

RETRY_STATUSES = frozenset({429, 503})


def pause_s(attempt: int) -> float:
    """Seconds to wait before attempt `attempt + 1` (from 0): doubling, with jitter so that clients spread out."""
    ceiling = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 16))
    return ceiling * (0.5 + random.random() / 2)


def retry_after_s(status: int, header: str | None) -> float | None:
    """Seconds that a refusal asks to wait; None when it is no such refusal or asks for longer than we will wait.

    Only 429 and 503 with Retry-After count: the daemon sends that header only where nothing was done.
    """
    if status not in RETRY_STATUSES or header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= MAX_RETRY_AFTER_S else None


def may_come_back(error: errors.AtollError) -> bool:
    """Whether an interrupted stream can hope that this refusal passes, for instance when a restart is over."""
    return isinstance(error, errors.Unavailable) and not isinstance(error, errors.RuntimeUnusable)
