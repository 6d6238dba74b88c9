"""A daemon killed between any two steps of a save: the save is whole or not there, and the disk it was of goes on."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atolld.core.snapshot import SaveKind
from atolld.host import loopdev, mounts, saves
from atolld.host.diskstore import DiskStore, StoreChoice
from atolld.host.instance import Instance
from atolld.host.layers import Layer, Layers, thaw
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers
from atolld.node import linux_saves

# Point -> the whole saves that are there afterwards.
POINTS = {
    "save_files.begun": ["s0"],
    "save_files.frozen": ["s0"],
    "save_files.has_disk": ["s0"],
    "save_files.hashed": ["s0"],
    "save_files.described": ["s0"],
    "save_files.pinned": ["s0"],
    "save_files.named": ["s0", "s1"],
    "discard_files.renamed": [],
}

DAEMON = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from atolld.core.snapshot import SaveKind
from atolld.foundation.clock import SystemClock
from atolld.host.diskstore import DiskStore
from atolld.host.instance import Instance
from atolld.host.layers import Layers
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers
from atolld.node.linux_saves import LinuxSaves
from atolld.node.mechanisms import Mechanisms

async def save(machine, id):
    prepared = SimpleNamespace(id="disk")
    directory = await machine.begin_save(id)
    (directory / "pages.img").write_bytes(b"p" * 300_000)
    await machine.settle(prepared)
    await machine.save_disk(prepared, id)
    await machine.finish_save(id, SaveKind.MEMORY, "test 1", 0.1, (Path({layer!r}),))

async def main():
    instance = Instance.named({name!r}, state_dir=Path({state!r}), run_dir=Path({run!r}))
    store = DiskStore(instance)
    store.open()
    saves = Saves(store.directory / ".saves", TemplateLayers(Path({layers!r}), instance), verify_disk_bytes=1 << 30)
    machine = LinuxSaves(Mechanisms(
        network=None, store=store, layers=Layers(instance), layer_pool=None, saves=saves, roots=None,
        own_logs=None, cgroups=None,
        state_dir=instance.state_dir, clock=SystemClock(), disk_reserve_bytes=1))
    if {endless}:
        number = 0
        while True:
            number += 1
            await save(machine, f"n{{number}}")
            print("round", flush=True)
            if number % 2:
                await machine.discard_save(f"n{{number}}")
    if {discard}:
        await machine.discard_save("s0")
    else:
        await save(machine, "s1")

asyncio.run(main())
"""


class Stage:
    """A store with the mounted disk of a sandbox and one whole save of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        name = f"t{secrets.token_hex(3)}"
        self.instance = Instance.named(name, state_dir=directory / "state", run_dir=directory / "run")
        self.template = directory / "layers" / "aa" / "root"
        self.template.mkdir(parents=True)
        self.store = DiskStore(self.instance, choice=StoreChoice.XFS, size_mib=320)
        self.store.open()
        self.layers = Layers(self.instance)
        self.layers.prepare()

    def saves(self) -> Saves:
        """As a new daemon sees them."""
        templates = TemplateLayers(self.template.parent.parent, self.instance)
        return Saves(self.store.directory / ".saves", templates, verify_disk_bytes=1 << 30)

    def first_save(self, layer: Layer) -> None:
        before = self.saves()
        before.begin("s0")
        before.add_disk("s0", layer.image)
        before.finish("s0", SaveKind.MEMORY, "test 1", layers=(self.template,), created_at=1, stopped_s=0)

    def start(self, point: str = "", *, discard: bool = False, endless: bool = False) -> subprocess.Popen[str]:
        code = DAEMON.format(
            name=self.instance.name,
            state=str(self.instance.state_dir),
            run=str(self.instance.run_dir),
            layer=str(self.template),
            layers=str(self.template.parent.parent),
            discard=discard,
            endless=endless,
        )
        environment = {**os.environ, "ATOLL_CRASH_POINT": point}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)

    def remove(self) -> None:
        self.saves().remove_all()
        self.layers.remove_all()
        self.store.remove()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.remove()
    assert not [one for one in mounts.read_mounts() if one.target.is_relative_to(tmp_path)]
    assert loopdev.list_attached(tmp_path) == {}
    assert list((made.template.parent / "pins").iterdir()) == []


def test_every_point_has_a_case() -> None:
    sources = "".join(Path(str(module.__file__)).read_text() for module in (saves, linux_saves))
    assert set(re.findall(r'crash_point\("([^"]+)"\)', sources)) == set(POINTS)


async def _goes_on(stage: Stage, layer: Layer) -> None:
    """What recovery does for a sandbox that still runs; then its disk must take writes again."""
    await asyncio.to_thread(thaw, layer)
    await asyncio.wait_for(asyncio.to_thread((layer.upper / "after").write_text, "x"), 5)


@pytest.mark.real
@pytest.mark.parametrize("point", POINTS)
async def test_a_daemon_killed_there_leaves_a_whole_save_or_none(stage: Stage, point: str) -> None:
    layer = await stage.layers.create("disk", 64)
    (layer.upper / "kept").write_text("x")
    await asyncio.to_thread(stage.first_save, layer)
    daemon = stage.start(point, discard=point.startswith("discard"))
    with daemon:
        assert await asyncio.to_thread(daemon.wait, 30) == -signal.SIGKILL
    await _goes_on(stage, layer)
    after = stage.saves()
    assert after.ids() == POINTS[point]
    after.sweep({"s0", "s1"})
    assert after.ids() == sorted(os.listdir(after.directory)) == POINTS[point]
    for id in POINTS[point]:
        after.check(id, SaveKind.MEMORY, "test 1")
        after.verify(id)
    clone = await stage.layers.from_image(after.home("s1") / "disk.img", "clone") if "s1" in POINTS[point] else layer
    assert (clone.upper / "kept").read_text() == "x"


@pytest.mark.real
@pytest.mark.parametrize("seed", range(4))
async def test_a_daemon_killed_at_any_moment(stage: Stage, seed: int) -> None:
    layer = await stage.layers.create("disk", 64)
    daemon = stage.start(endless=True)
    with daemon:
        assert daemon.stdout is not None
        assert await asyncio.to_thread(daemon.stdout.readline) == "round\n"
        await asyncio.sleep(random.Random(seed).uniform(0.01, 0.2))
        daemon.kill()
    await _goes_on(stage, layer)
    after = stage.saves()
    found = after.ids()
    after.sweep(found)
    assert after.ids() == sorted(os.listdir(after.directory)) == found
    for id in found:
        after.verify(id)
