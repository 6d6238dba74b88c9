"""The runsc command lines, for old and new binaries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atolld.foundation.ids import SandboxId
from atolld.runtime.drivers.gvisor.arguments import Runsc
from atolld.runtime.drivers.gvisor.binary import NEEDED_CHECKPOINT_FLAGS, NEEDED_FLAGS, RunscBinary

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


def test_restore_is_run_with_an_image() -> None:
    restore = runsc("directfs").restore(ID, HOME, Path("/image"))
    assert "--image-path=/image" in restore
    assert [argument for argument in restore if argument != "--image-path=/image"] == [
        "restore" if argument == "run" else argument for argument in runsc("directfs").run(ID, HOME)
    ]


def test_start_has_the_flags_of_run() -> None:
    run = runsc("directfs", "net-disconnect-ok").run(ID, HOME)
    assert runsc("directfs", "net-disconnect-ok").start(ID, HOME) == [*run[: run.index("run")], "start", ID]


def test_pause_and_resume() -> None:
    assert runsc().pause(ID) == ["/r", "--root=/root", "pause", ID]
    assert runsc().resume(ID) == ["/r", "--root=/root", "resume", ID]


@pytest.mark.parametrize(
    ("known", "direct", "expected"),
    [
        (set(), True, []),
        ({"exclude-committed-zero-pages"}, True, ["--exclude-committed-zero-pages"]),
        ({"exclude-committed-zero-pages", "direct"}, False, ["--exclude-committed-zero-pages"]),
        ({"exclude-committed-zero-pages", "direct"}, True, ["--exclude-committed-zero-pages", "--direct"]),
    ],
)
def test_checkpoint(known: set[str], direct: bool, expected: list[str]) -> None:
    binary = replace(runsc().binary, checkpoint_flags=NEEDED_CHECKPOINT_FLAGS | known)
    argv = replace(runsc(), binary=binary).checkpoint(ID, Path("/image"), direct=direct)
    assert argv[2:5] == ["checkpoint", "--leave-running", "--compression=none"]
    assert argv[5:] == [*expected, "--image-path=/image", ID]


def test_kill() -> None:
    assert runsc().kill(ID, HOME, "TERM")[-3:] == ["kill", ID, "TERM"]
