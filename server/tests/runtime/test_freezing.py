"""Freezing by the control group, in the words of the driver interface."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.foundation.errors import Internal, NotFound
from atolld.foundation.ids import new_sandbox_id
from atolld.host.cgroup_layout import CgroupLayout, CgroupMode
from atolld.host.cgroups import Cgroups
from atolld.host.instance import Instance
from atolld.host.procs import identify
from atolld.runtime.freezing import freeze, thaw, wake


def made_up(root: Path) -> Cgroups:
    return Cgroups(Instance.named("at"), CgroupLayout(CgroupMode.V2, dict.fromkeys(("cpu", "memory", "pids"), root)))


async def test_one_that_is_gone(tmp_path: Path) -> None:
    id = new_sandbox_id()
    with pytest.raises(NotFound):
        await freeze(made_up(tmp_path), id)
    with pytest.raises(NotFound):
        thaw(made_up(tmp_path), id)


async def test_one_that_does_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.host.cgroups._FREEZE_TRIES", 1)
    id = new_sandbox_id()
    group = tmp_path / "at" / id
    group.mkdir(parents=True)
    for name, text in (("cgroup.freeze", "0"), ("cgroup.events", "frozen 0\n"), ("cgroup.procs", "17\n")):
        (group / name).write_text(text)
    with pytest.raises(Internal, match=r"cannot be frozen: processes \[17\]"):
        await freeze(made_up(tmp_path), id)
    thaw(made_up(tmp_path), id)
    assert (group / "cgroup.freeze").read_text() == "0"


async def test_one_that_is_woken_lives(tmp_path: Path) -> None:
    id = new_sandbox_id()
    group = tmp_path / "at" / id
    group.mkdir(parents=True)
    (group / "cgroup.freeze").write_text("1")
    wake(made_up(tmp_path), id, identify(os.getpid()))
    assert (group / "cgroup.freeze").read_text() == "0"
    # What died is let go all the same: nothing of it could end otherwise.
    (group / "cgroup.freeze").write_text("1")
    with pytest.raises(NotFound):
        wake(made_up(tmp_path), id, None)
    assert (group / "cgroup.freeze").read_text() == "0"
