"""Logs in memory: bounded, and gone."""

from __future__ import annotations

import errno

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.host.instance import Instance
from atolld.host.ownlogs import SIZE_KIB, OwnLogs

pytestmark = pytest.mark.real


def test_a_log_is_bounded_and_removed(instance: Instance, clean: None) -> None:
    logs = OwnLogs(instance)
    log = logs.create("s1")
    assert logs.create("s1") == log == logs.path("s1")
    with pytest.raises(OSError, match="No space") as failure, log.open("wb", buffering=0) as file:
        for _ in range(SIZE_KIB + 1):
            file.write(bytes(1024))
    assert failure.value.errno == errno.ENOSPC
    for _ in range(2):
        logs.remove("s1")
    assert not log.parent.exists()


def test_one_in_use_goes_with_its_last_writer(instance: Instance, clean: None) -> None:
    logs = OwnLogs(instance)
    with logs.create("s1").open("w") as file:
        logs.remove("s1")
        file.write("still")
    assert not logs.path("s1").parent.exists()


def test_names_are_checked(instance: Instance) -> None:
    with pytest.raises(InvalidArgument):
        OwnLogs(instance).path("../x")
