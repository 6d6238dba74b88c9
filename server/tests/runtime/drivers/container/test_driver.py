"""What runc says of itself."""

from __future__ import annotations

import pytest

from atolld.foundation.errors import RuntimeUnusable
from atolld.runtime.drivers.container.driver import parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("runc version 1.1.5+ds1\ncommit: x\n", "1.1.5+ds1"),
        ("runc version 1.3.0\n", "1.3.0"),
        ("runc version 2.0.1-rc.1", "2.0.1-rc.1"),
    ],
)
def test_version(text: str, version: str) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "reason"), [("", "does not say"), ("crun version 1.8", "does not say"), ("runc version 1.0.3", "too old")]
)
def test_bad_version(text: str, reason: str) -> None:
    with pytest.raises(RuntimeUnusable, match=reason):
        parse_version(text)
