"""What handles keep, and how they are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.core.sandbox import Resources
from atolld.foundation.errors import FailedPrecondition
from atolld.foundation.ids import SandboxId
from atolld.host import procs
from atolld.host.procs import ProcessIdentity
from atolld.runtime.driver import Handle
from atolld.runtime.record import VERSION, Record, current_boot_id

ID = SandboxId("i0123456789abcdefghi")
RECORDS = [
    Record(ID, Path("/d")),
    Record(ID, Path("/d"), Path("/l"), Resources(cpu=0.5)),
    Record(ID, Path("/d"), Path("/l"), Resources(), ProcessIdentity(7, 9), "boot"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_handle_keeps_all(record: Record) -> None:
    assert Record.from_handle(Handle.from_json(record.to_handle("x").to_json())) == record


DAMAGED: list[Mapping[str, object]] = [{}, {"directory": 5}, {"directory": "/d", "resources": {"cpus": 1}}]


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged(data: Mapping[str, object]) -> None:
    with pytest.raises(FailedPrecondition, match="damaged"):
        Record.from_handle(Handle("x", VERSION, ID, data))


def test_newer() -> None:
    with pytest.raises(FailedPrecondition, match="newer Atoll"):
        Record.from_handle(Handle("x", VERSION + 1, ID, {"directory": "/d"}))


def test_living() -> None:
    own = procs.identify(os.getpid())
    assert own is not None
    record = Record(ID, Path("/d"), process=own, boot_id=current_boot_id())
    assert record.living() == own
    assert replace(record, boot_id="of another boot").living() is None
    assert replace(record, process=ProcessIdentity(own.pid, own.started_ticks + 1)).living() is None
    assert replace(record, process=None).living() is None
