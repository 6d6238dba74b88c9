from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from atolld.daemon.process import SWITCH_S, come_first, raise_file_limit, take_turns


def test_the_file_limit_is_raised_as_far_as_it_goes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("own_session, written", [(True, "-10\n"), (False, "0")])
def test_only_a_session_of_its_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_session: bool, written: str
) -> None:
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid() if own_session else 1)
    file = tmp_path / "autogroup"
    file.write_text("0")
    assert come_first(file) is own_session
    assert file.read_text() == written


def test_a_kernel_without_autogroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    assert not come_first(tmp_path / "missing" / "autogroup")


def test_threads_take_turns_often() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        take_turns()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    finally:
        sys.setswitchinterval(before)
