"""Writable layers: made, bounded, cloned, found and gone."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atolld.foundation.errors import AlreadyExists, InvalidArgument
from atolld.foundation.units import MIB
from atolld.host import loopdev, mounts
from atolld.host.instance import Instance
from atolld.host.layers import Layer, Layers, frozen


def test_paths_of_a_layer(instance: Instance) -> None:
    layer = Layers(instance).get("i3f")
    assert layer.image == instance.state_dir / "layers/i3f/disk.img"
    assert (layer.upper.name, layer.work.name, layer.log.name) == ("upper", "work", "log")
    assert layer.upper.parent == layer.mount


@pytest.mark.parametrize("id", ["", "..", ".empty", "a/b", "a\nb"])
def test_hostile_ids_make_no_path(instance: Instance, id: str) -> None:
    with pytest.raises(InvalidArgument):
        Layers(instance).get(id)


async def test_a_tiny_disk_is_refused(instance: Instance) -> None:
    with pytest.raises(InvalidArgument, match="16"):
        await Layers(instance).create("a", 1)


@pytest.fixture
def layers(instance: Instance, clean: None) -> Layers:
    made = Layers(instance)
    made.prepare()
    return made


def fill(directory: Path) -> tuple[int, int]:
    """Write until it fails: bytes written, errno."""
    written = 0
    with open(directory / "big", "wb", buffering=0) as file:
        try:
            while True:
                written += file.write(b"x" * MIB)
        except OSError as error:
            return written, error.errno or 0


@pytest.mark.real
async def test_a_new_layer_is_empty_closed_and_small(layers: Layers) -> None:
    layer = await layers.create("a", 1024)
    assert sorted(os.listdir(layer.mount)) == ["log", "lost+found", "upper", "work"]
    assert os.listdir(layer.upper) == []
    assert layers.directory.stat().st_mode & 0o777 == 0o700
    usage = layers.usage(layer)
    assert 0.95 < usage.limit_bytes / (1024 * MIB) <= 1
    assert usage.used_bytes < MIB
    assert usage.host_bytes < 2 * MIB
    for _ in range(2):
        await layers.destroy(layer)
    assert layers.list_owned() == []
    layers.remove_all()


@pytest.mark.real
async def test_a_full_disk_is_enospc_and_hurts_no_other(layers: Layers) -> None:
    one, two = await layers.create("one", 64), await layers.create("two", 64)
    written, failure = await asyncio.to_thread(fill, one.upper)
    assert failure == errno.ENOSPC
    assert 40 * MIB < written < 64 * MIB
    (two.upper / "still").write_text("writable")
    assert one.image.stat().st_size == 64 * MIB
    await layers.destroy(one)
    await layers.destroy(two)
    layers.remove_all()


@pytest.mark.real
async def test_deleted_data_leaves_the_host_disk(layers: Layers, eventually: Callable[..., Any]) -> None:
    layer = await layers.create("a", 256)
    (layer.upper / "big").write_bytes(os.urandom(64 * MIB))
    os.sync()
    assert layers.usage(layer).host_bytes > 60 * MIB
    (layer.upper / "big").unlink()
    os.sync()
    await eventually(lambda: layers.usage(layer).host_bytes < 8 * MIB)
    await layers.destroy(layer)
    layers.remove_all()


@pytest.mark.real
async def test_contents_survive_unmount_and_set_user_id_works_but_devices_do_not(layers: Layers) -> None:
    layer = await layers.create("a", 64)
    (layer.upper / "kept").write_text("data")
    await layers.unmount(layer)
    await layers.unmount(layer)
    assert not layer.upper.exists()
    assert loopdev.list_attached(layers.directory) == {}
    await layers.mount(layer)
    await layers.mount(layer)
    assert (layer.upper / "kept").read_text() == "data"
    (mount,) = (m for m in mounts.read_mounts() if m.target == layer.mount)
    assert "nodev" in mount.options
    assert "nosuid" not in mount.options
    assert list(loopdev.list_attached(layers.directory)) == [layer.image]
    await layers.destroy(layer)
    layers.remove_all()


@pytest.mark.real
async def test_a_clone_has_the_same_contents_and_its_own_life(layers: Layers) -> None:
    source = await layers.create("source", 64)
    (source.upper / "file").write_text("one")
    async with frozen(source):
        clone = await layers.clone(source, "clone")
    (source.upper / "file").write_text("changed")
    assert (clone.upper / "file").read_text() == "one"
    (clone.upper / "own").write_text("x")
    assert not (source.upper / "own").exists()
    with pytest.raises(AlreadyExists):
        await layers.clone(source, "clone")
    with pytest.raises(FileNotFoundError):
        await layers.clone(Layer("none", layers.directory / "none"), "other")
    assert [layer.id for layer in layers.list_owned()] == ["clone", "source"]
    layers.remove_all()


@pytest.mark.real
async def test_creating_twice_is_refused_and_leaves_the_first(layers: Layers) -> None:
    layer = await layers.create("a", 64)
    (layer.upper / "mine").write_text("x")
    with pytest.raises(AlreadyExists):
        await layers.create("a", 64)
    assert (layer.upper / "mine").exists()
    layers.remove_all()


@pytest.mark.real
async def test_a_cancelled_create_leaves_nothing(layers: Layers) -> None:
    await layers.destroy(await layers.create("warm", 64))
    task = asyncio.get_running_loop().create_task(layers.create("a", 64))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert layers.list_owned() == []
    assert loopdev.list_attached(layers.directory) == {}
    layers.remove_all()


@pytest.mark.real
async def test_destroying_does_not_wait_for_unwritten_data(layers: Layers) -> None:
    layer = await layers.create("a", 1024)
    (layer.upper / "dirty").write_bytes(b"x" * (128 * MIB))
    layers.abandon(layer)
    with pytest.raises(OSError, match="rror"):
        (layer.upper / "more").write_text("x")
    layers.abandon(layer)
    await layers.destroy(layer)
    layers.remove_all()


@pytest.mark.real
async def test_what_a_crash_left_half_made_is_found_and_removed(layers: Layers) -> None:
    (layers.directory / "half").mkdir()
    unmounted = await layers.create("unmounted", 64)
    await layers.unmount(unmounted)
    await layers.create("whole", 64)
    fresh = Layers(Instance.named("other", state_dir=layers.directory.parent))
    assert [layer.id for layer in fresh.list_owned()] == ["half", "unmounted", "whole"]
    for layer in fresh.list_owned():
        await fresh.destroy(layer)
    assert fresh.list_owned() == []
    fresh.remove_all()


@pytest.mark.real
async def test_many_at_once_of_a_size_not_seen_before(layers: Layers) -> None:
    made = await asyncio.gather(*(layers.create(f"l{n}", 80) for n in range(12)))
    assert len({layer.mount.stat().st_dev for layer in made}) == 12
    await asyncio.gather(*map(layers.destroy, made))
    layers.remove_all()
