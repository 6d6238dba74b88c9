"""Layers made by writing over others: whole or not there, whenever they are interrupted, and over very many."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from server.tests.images.buildstage import PROJECT, WHERE, Stage, tree

from atolld.core.build import Copy
from atolld.foundation.errors import Capacity
from atolld.host import mounts, syscalls
from atolld.images import budget, layermaking
from atolld.images.unpack import Cancelled

pytestmark = pytest.mark.real

DIGEST = "ab" * 32
# Point -> whether the layer is there afterwards.
POINTS = {"make_layer.begun": False, "make_layer.filled": False, "make_layer.named": True}

KILLED = """
import asyncio
from pathlib import Path
from server.tests.images.buildstage import PROJECT, WHERE, Stage
from atolld.core.build import Copy
stage = Stage(Path({directory!r}))
step = Copy(WHERE, (), "/etc/motd", inline={{"x": "hello"}})
asyncio.run(stage.machine.copy(PROJECT, step, None, ({lower!r},), "/", {digest!r}, {{}}))
"""


def test_every_point_has_a_case() -> None:
    source = Path(layermaking.__file__).read_text()
    assert set(re.findall(r'crash_point\("([^"]+)"\)', source)) == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_killed_there_leaves_a_whole_layer_or_none(tmp_path: Path, point: str) -> None:
    stage = Stage(tmp_path)
    lower = stage.layer({"etc/passwd": "x"})
    code = KILLED.format(directory=str(tmp_path), lower=lower, digest=DIGEST)
    environment = {**os.environ, "ATOLL_CRASH_POINT": point}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=30).returncode == -signal.SIGKILL
    # Other programs of the machine may mount meanwhile.
    assert mounts.mounts_below(tmp_path) == []
    assert (stage.store.get(DIGEST) is not None) is POINTS[point]
    assert stage.store.remove_leftovers() == (0 if POINTS[point] else 1)
    assert sorted(os.listdir(stage.store.directory)) == sorted([lower, *([DIGEST] if POINTS[point] else [])])
    again = subprocess.run([sys.executable, "-c", code], env=os.environ | {"ATOLL_CRASH_POINT": ""}, timeout=30)
    assert again.returncode == 0
    assert tree(stage.root(DIGEST)) == {"etc/motd": "hello"}


async def test_over_very_many_layers(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    lower = [stage.layer({f"d/f{number}": str(number)}) for number in range(200)]
    root = await stage.copy(Copy(WHERE, ("d",), "/x/", origin="stage:0"), *lower, stage=tuple(lower))
    assert len(tree(root)) == 200


async def test_two_at_once_are_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    lower = stage.layer({"a": "1"})

    async def copy(text: str) -> None:
        step = Copy(WHERE, (), "/x", inline={"x": text})
        await stage.machine.copy(PROJECT, step, None, (lower,), "/", DIGEST, {})

    await asyncio.gather(*(copy(str(number)) for number in range(8)))
    assert sorted(os.listdir(stage.store.directory)) == sorted([lower, DIGEST])
    assert len(tree(stage.root(DIGEST))) == 1


async def test_a_caller_that_goes_away_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    lower = stage.layer({f"f{number}": "x" for number in range(50)})
    begun, go_on = threading.Event(), threading.Event()
    check = budget.LayerBudget.check

    def hold(self: budget.LayerBudget) -> None:
        begun.set()
        go_on.wait(10)
        check(self)

    monkeypatch.setattr(budget.LayerBudget, "check", hold)
    step = Copy(WHERE, ("/",), "/x/", origin="stage:0")
    work = stage.machine.copy(PROJECT, step, (lower,), (), "/", DIGEST, {})
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await task
    assert os.listdir(stage.store.directory) == [lower]


async def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    big = tmp_path / "big"
    big.write_bytes(os.urandom(9 << 20))
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 32 << 20)
    process = await asyncio.create_subprocess_exec("mke2fs", "-q", "-F", "-t", "ext4", str(image))
    assert await process.wait() == 0
    process = await asyncio.create_subprocess_exec("mount", "-o", "loop", str(image), str(cache))
    assert await process.wait() == 0
    try:
        stage = Stage(tmp_path)
        lower = stage.layer({"a": "1"})
        (stage.root(lower) / "big").write_bytes(big.read_bytes())
        step = Copy(WHERE, ("/",), "/x/", origin="stage:0")
        # What must stay free is more than this disk has.
        with pytest.raises(Capacity, match="would become full"):
            await stage.copy(step, lower, stage=(lower,))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("atolld.images.budget.RESERVE_BYTES", 0)
            patch.setattr(budget, "check_room", lambda *_: None)
            with pytest.raises(Capacity, match="became full"):
                for _ in range(4):
                    await stage.copy(step, lower, stage=(lower,))
        assert not [name for name in os.listdir(stage.store.directory) if name.startswith(".")]
    finally:
        syscalls.umount(cache)
