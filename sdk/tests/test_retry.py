"""When to ask again."""

from __future__ import annotations

import pytest

from atoll import _errors as errors
from atoll._retry import MAX_PAUSE_S, may_come_back, pause_s, retry_after_s


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (429, "2", 2.0),
        (503, "0", 0.0),
        (503, "0.25", 0.25),
        (503, None, None),
        (500, "1", None),
        (503, "soon", None),
        (503, "3600", None),
        (503, "-1", None),
        (503, "nan", None),
    ],
)
def test_only_refusals_that_say_when(status: int, header: str | None, expected: float | None) -> None:
    assert retry_after_s(status, header) == expected


def test_pauses_grow_to_a_limit() -> None:
    assert 0 < pause_s(0) <= 0.05
    assert all(MAX_PAUSE_S / 2 <= pause_s(attempt) <= MAX_PAUSE_S for attempt in (6, 60, 6000))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectionFailed("m"), True),
        (errors.Unavailable("m"), True),
        (errors.GuestUnreachable("m"), True),
        (errors.RuntimeUnusable("m"), False),
        (errors.NotFound("m"), False),
        (errors.SandboxEnded("m"), False),
        (errors.Unauthenticated("m"), False),
    ],
)
def test_what_may_pass(error: errors.AtollError, expected: bool) -> None:
    assert may_come_back(error) is expected
