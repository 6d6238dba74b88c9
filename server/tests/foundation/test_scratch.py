from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from atolld.foundation.scratch import LEFT_AFTER_S, scratch


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def test_it_is_private_and_gone_afterwards_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyError), scratch("x", tmp_path) as made:
        assert made.parent == tmp_path and made.name.startswith("atoll-x-")
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        (made / "deep" / "er").mkdir(parents=True)
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_what_killed_ones_left_goes_and_nothing_else(tmp_path: Path) -> None:
    left, fresh, other, elsewhere = (tmp_path / name for name in ("atoll-x-1", "atoll-x-2", "atoll-y-1", "target"))
    for directory in (left, fresh, other, elsewhere):
        directory.mkdir()
        (directory / "file").touch()
    (tmp_path / "atoll-x-file").touch()
    (tmp_path / "atoll-x-link").symlink_to(elsewhere)
    for path in tmp_path.iterdir():
        age(path, LEFT_AFTER_S + 60)
    age(fresh, LEFT_AFTER_S - 60)
    with scratch("x", tmp_path):
        assert not left.exists()
    stay = ["atoll-x-2", "atoll-x-file", "atoll-x-link", "atoll-y-1", "target"]
    assert sorted(os.listdir(tmp_path)) == stay
    assert os.listdir(elsewhere) == ["file"]


def test_without_a_place_it_is_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch("x") as made:
        assert made.parent == tmp_path
