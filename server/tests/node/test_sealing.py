from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.tests.node.stage import ID, OTHER, Stage, launch_of

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, Internal, NotFound
from atolld.host import mounts, rootfs, syscalls
from atolld.images.layers import LayerStore
from atolld.node import linux_seals
from atolld.node.fake import FakeNode
from atolld.runtime.drivers.fake import Script, Verb

DIGEST = "ab" * 32


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def running(script: Script | None = None) -> Stage:
    stage = Stage(script)
    await stage.start()
    await stage.node.launch(launch_of())
    return stage


@pytest.mark.parametrize("changed", [True, False])
async def test_the_changes_are_kept_once_it_has_ended(changed: bool) -> None:
    stage = await running()
    if not changed:
        stage.machine.unchanged.add(ID)
    assert await stage.node.seal(ID, DIGEST, {"step": 1}) is changed
    assert stage.machine.sealed == ({DIGEST: (ID, {"step": 1})} if changed else {})
    assert [verb for verb, _ in stage.driver.calls][-1] is Verb.DESTROY
    assert stage.empty() and stage.deaths == []
    with pytest.raises(NotFound):
        await stage.node.seal(ID, DIGEST, {})


@pytest.mark.parametrize(
    "error", [Capacity("the disk is full"), FailedPrecondition("/x holds a setting"), OSError("gone")]
)
async def test_nothing_of_it_is_left_when_they_cannot_be_kept(error: Exception) -> None:
    stage = await running()
    stage.machine.failures["seal"] = error
    with pytest.raises(type(error)):
        await stage.node.seal(ID, DIGEST, {})
    assert stage.empty() and stage.deaths == [] and stage.machine.sealed == {}


async def test_a_sandbox_that_cannot_be_ended_is_sealed_by_nobody_and_ended_later() -> None:
    stage = await running(Script(failures={Verb.DESTROY: [Internal("busy"), Internal("busy")]}))
    with pytest.raises(Internal, match="busy"):
        await stage.node.seal(ID, DIGEST, {})
    assert stage.machine.sealed == {} and not stage.empty()
    await stage.clock.advance(60)
    await settle()
    assert stage.empty()


async def test_a_caller_that_goes_away_leaves_nothing() -> None:
    stage = await running(Script(delays_s={Verb.DESTROY: 5.0}))
    sealing = asyncio.gather(stage.node.seal(ID, DIGEST, {}))
    await settle()
    sealing.cancel()
    await stage.clock.advance(5)
    await stage.clock.advance(5)
    with pytest.raises(asyncio.CancelledError):
        await sealing
    await settle()
    assert stage.empty() and stage.machine.sealed == {}


async def test_an_end_is_faster() -> None:
    stage = await running(Script(delays_s={Verb.DESTROY: 5.0}))
    sealing = asyncio.gather(stage.node.seal(ID, DIGEST, {}), return_exceptions=True)
    await settle()
    ending = asyncio.gather(stage.node.terminate(ID))
    await settle()
    await stage.clock.advance(5)
    await stage.clock.advance(5)
    await ending
    (error,) = await sealing
    assert isinstance(error, FailedPrecondition) and "was ended before" in error.message
    assert stage.empty() and stage.machine.sealed == {}


async def test_two_at_once_are_one_and_a_refusal() -> None:
    stage = await running()
    outcomes = await asyncio.gather(
        stage.node.seal(ID, DIGEST, {}), stage.node.seal(ID, DIGEST, {}), return_exceptions=True
    )
    assert outcomes[0] is True and isinstance(outcomes[1], NotFound)
    assert stage.empty()


async def test_the_fake_node_keeps_files() -> None:
    node = FakeNode(ManualClock())
    for id in (ID, OTHER):
        await node.launch(launch_of(id))
    node.machine.sandboxes[ID].files["/a"] = b"//mirror/"
    assert not await node.seal(OTHER, DIGEST, {})
    with pytest.raises(FailedPrecondition, match="/a"):
        await node.seal(ID, DIGEST, {}, forbidden=["//mirror/"])
    assert node.machine.sandboxes == {} and node.machine.layers == {}
    await node.launch(launch_of())
    node.machine.sandboxes[ID].files["/a"] = b"x"
    assert await node.seal(ID, DIGEST, {"n": 1})
    assert node.machine.layers[DIGEST].files == {"/a": b"x"}
    node.fail("seal", Capacity("full"))
    await node.launch(launch_of())
    with pytest.raises(AtollError, match="full"):
        await node.seal(ID, DIGEST, {})
    assert node.machine.sandboxes == {}


# Point -> whether the layer is there afterwards.
POINTS = {"seal_files.begun": False, "seal_files.filled": False, "seal_files.named": True}

DAEMON = """
import threading
from pathlib import Path
from atolld.foundation.clock import SystemClock
from atolld.images.layers import LayerStore
from atolld.images.sealing import Upper
from atolld.node.linux_seals import seal_into
home = Path({home!r})
upper = Upper(home / "upper", home / "view", [home / "lower"])
seal_into(LayerStore(home), upper, {digest!r}, {{}}, forbidden=(), clock=SystemClock(), stop=threading.Event())
"""


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    for name in ("upper", "work", "view", "lower"):
        (tmp_path / name).mkdir()
    options = rootfs.mount_data(rootfs.overlay_options([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work"))
    syscalls.mount("overlay", tmp_path / "view", "overlay", 0, options)
    (tmp_path / "view/file").write_text("x")
    yield tmp_path
    mounts.unmount(tmp_path / "view")


def test_every_point_has_a_case() -> None:
    source = Path(linux_seals.__file__).read_text()
    assert set(re.findall(r'crash_point\("([^"]+)"\)', source)) == set(POINTS)


@pytest.mark.real
@pytest.mark.parametrize("point", POINTS)
def test_a_daemon_killed_there_leaves_a_whole_layer_or_none(overlay: Path, point: str) -> None:
    code = DAEMON.format(home=str(overlay), digest=DIGEST)
    environment = {**os.environ, "ATOLL_CRASH_POINT": point}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=30).returncode == -signal.SIGKILL
    store = LayerStore(overlay)
    layer = store.get(DIGEST)
    assert (layer is not None) is POINTS[point]
    assert store.remove_leftovers() == (0 if layer else 1)
    assert os.listdir(store.directory) == ([DIGEST] if layer else [])
    again = subprocess.run([sys.executable, "-c", code], env=os.environ | {"ATOLL_CRASH_POINT": ""}, timeout=30)
    assert again.returncode == 0
    assert os.listdir(store.directory) == [DIGEST]
    assert (store.directory / DIGEST / "root/file").read_text() == "x"
