"""The runsc command lines, for old and new binaries."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.gvisor.arguments import Runsc
from atolld.runtime.drivers.gvisor.binary import NEEDED_FLAGS, RunscBinary

ID = SandboxId("i0123456789abcdefghi")
HOME = Path("/d")


def runsc(*flags: str) -> Runsc:
    return Runsc(RunscBinary(Path("/r"), "v", "20240729", NEEDED_FLAGS | set(flags)), Path("/root"), "systrap")


def test_run_with_an_old_binary() -> None:
    assert runsc().run(ID, HOME) == [
        "/r",
        "--root=/root",
        "--log=/d/runsc.log",
        "--log-format=json",
        "--platform=systrap",
        "--network=sandbox",
        "--file-access=exclusive",
        "run",
        "--detach",
        "--bundle=/d",
        "--pid-file=/d/sandbox.pid",
        ID,
    ]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("overlay2", "--overlay2=none"),
        ("directfs", "--directfs=true"),
        ("net-disconnect-ok", "--net-disconnect-ok=true"),
        ("cpu-num-from-quota", "--cpu-num-from-quota=true"),
        ("allow-suid", "--allow-suid=true"),
        ("host-uds", "--host-uds=none"),
        ("panic-log", "--panic-log=/d/panic.log"),
    ],
)
def test_flags_are_used_where_known(flag: str, expected: str) -> None:
    assert expected in runsc(flag).run(ID, HOME)
    assert expected not in runsc().run(ID, HOME)


def test_kill() -> None:
    assert runsc().kill(ID, HOME, "TERM")[-3:] == ["kill", ID, "TERM"]
