"""Known gaps shrink by themselves: one that holds no more fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.runtime.conformance import CHECKS, run_check
from atolld.runtime.conformance.fake_lab import FakeLab


async def test_a_gap_that_is_closed_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="'start_runs' .no reason. is closed"):
        await run_check("start_runs", FakeLab(tmp_path), {"start_runs": "no reason"})


async def test_a_gap_that_holds_passes(tmp_path: Path) -> None:
    await run_check("cpu_quota", FakeLab(tmp_path), {"cpu_quota": "nothing runs"})


async def test_a_gap_of_no_check(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        await run_check("start_runs", FakeLab(tmp_path), {"no_such_check": ""})


def test_every_check_says_what_it_promises() -> None:
    assert len(CHECKS) >= 45
    assert all(check.__doc__ for check in CHECKS.values())
