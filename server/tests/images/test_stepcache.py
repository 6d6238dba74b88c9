from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.errors import Internal
from atolld.images.stepcache import StepCache

KEY, DIGEST = "a" * 64, "b" * 64


def test_a_key_stands_for_itself_until_something_else_is_said(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    assert cache.latest(KEY) == KEY
    cache.put(KEY, DIGEST)
    assert StepCache(tmp_path).latest(KEY) == DIGEST
    cache.put(KEY, KEY)
    assert cache.latest(KEY) == KEY


def test_a_damaged_entry_counts_as_none(tmp_path: Path) -> None:
    cache = StepCache(tmp_path)
    cache.put(KEY, DIGEST)
    (tmp_path / "layers" / "steps" / KEY).write_bytes(b"\xff../../etc")
    assert cache.latest(KEY) == KEY


@pytest.mark.parametrize("key", ["", "..", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_key_reaches_no_path(tmp_path: Path, key: str) -> None:
    with pytest.raises(Internal):
        StepCache(tmp_path).latest(key)
