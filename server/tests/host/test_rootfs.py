"""Overlays: the options as text, and what a sandbox's root does on the real file system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atolld.foundation.errors import InvalidArgument
from atolld.host import loopdev, mounts
from atolld.host.instance import Instance
from atolld.host.layers import Layer, Layers
from atolld.host.rootfs import RootFilesystems, mount_data, overlay_options

UPPER, WORK = Path("/s/l/mnt/upper"), Path("/s/l/mnt/work")


def test_options_as_one_string() -> None:
    options = overlay_options([Path("/top"), Path("/base")], UPPER, WORK)
    assert mount_data(options) == (
        "lowerdir=/top:/base,upperdir=/s/l/mnt/upper,workdir=/s/l/mnt/work,"
        "index=off,metacopy=off,redirect_dir=on,xino=auto"
    )
    assert options[:2] == [("lowerdir+", "/top"), ("lowerdir+", "/base")]


@pytest.mark.parametrize("lower", [[], [Path("/a:b")], [Path("/a,b")], [Path("a")], [Path("/a\\b")], [Path("/a\nb")]])
def test_layers_overlayfs_cannot_take_are_refused(lower: list[Path]) -> None:
    with pytest.raises(InvalidArgument):
        overlay_options(lower, UPPER, WORK)


def test_too_many_layers_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="501"):
        overlay_options([Path("/a")] * 501, UPPER, WORK)


@pytest.mark.parametrize("id", ["", "..", "a/b", "a\nb"])
def test_hostile_ids_make_no_path(instance: Instance, id: str) -> None:
    with pytest.raises(InvalidArgument):
        RootFilesystems(instance).path(id)


class Machine:
    """Root file systems with their layers and two lower directories."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self.layers = Layers(instance)
        self.layers.prepare()
        self.roots = RootFilesystems(instance)
        self.roots.prepare()
        self.base, self.top = directory / "base", directory / "top"
        for path in (self.base / "etc", self.base / "opt/tool", self.top / "etc"):
            path.mkdir(parents=True)
        (self.base / "etc/name").write_text("base")
        (self.base / "opt/tool/run").write_text("run")
        (self.top / "etc/name").write_text("top")

    async def end(self, *layers: Layer) -> None:
        for layer in layers:
            await self.roots.unmount(layer.id)
        self.layers.remove_all()
        self.roots.remove_all()


@pytest.fixture
def machine(instance: Instance, clean: None, tmp_path: Path) -> Machine:
    return Machine(instance, tmp_path)


@pytest.mark.real
async def test_layers_are_stacked_and_writes_stay_in_the_sandboxes_own(machine: Machine) -> None:
    one, two = await machine.layers.create("i1", 64), await machine.layers.create("i2", 64)
    lower = [machine.top, machine.base]
    root = await machine.roots.mount("i1", lower, one)
    assert await machine.roots.mount("i1", lower, one) == root
    other = await machine.roots.mount("i2", lower, two)
    assert (root / "etc/name").read_text() == "top"
    (root / "etc/name").write_text("mine")
    os.rename(root / "opt/tool", root / "opt/renamed")
    assert (root / "opt/renamed/run").read_text() == "run"
    assert (other / "etc/name").read_text() == "top"
    assert (other / "opt/tool/run").exists()
    assert (machine.base / "opt/tool/run").exists()
    assert sorted(machine.roots.list_owned()) == ["i1", "i2"]
    (mount,) = (m for m in mounts.read_mounts() if m.target == root)
    assert "nodev" in mount.options
    assert "nosuid" not in mount.options
    # One device number for all files, wherever they came from.
    assert {p.lstat().st_dev for p in (root / "etc/name", root / "opt/renamed/run", root)} == {root.stat().st_dev}
    for _ in range(2):
        await machine.roots.unmount("i1")
    assert machine.roots.list_owned() == ["i2"]
    assert not root.parent.exists()
    await machine.end(two)


@pytest.mark.real
async def test_a_cloned_layer_shows_the_same_root(machine: Machine) -> None:
    source = await machine.layers.create("i1", 64)
    root = await machine.roots.mount("i1", [machine.base], source)
    os.rename(root / "opt", root / "moved")
    (root / "etc/name").unlink()
    (root / "new").write_text("x")
    await machine.roots.unmount("i1")
    await machine.layers.unmount(source)
    clone = await machine.layers.clone(source, "i2")
    other = await machine.roots.mount("i2", [machine.base], clone)
    assert sorted(os.listdir(other)) == ["etc", "moved", "new"]
    assert (other / "moved/tool/run").read_text() == "run"
    assert os.listdir(other / "etc") == []
    await machine.end(clone)


@pytest.mark.real
async def test_lower_lists_longer_than_a_page(machine: Machine, tmp_path: Path) -> None:
    lower, here = [], Path.cwd()
    for n in range(500):
        path = tmp_path / f"layer-{n:03}-{'x' * 60}"
        path.mkdir()
        (path / f"f{n}").write_text(str(n))
        (path / "all").write_text(str(n))
        lower.append(path)
    layer = await machine.layers.create("i1", 64)
    root = await machine.roots.mount("i1", lower, layer)
    assert len(os.listdir(root)) == 501
    assert os.listdir(root.parent) == ["rootfs"]
    assert Path.cwd() == here
    assert (root / "all").read_text() == "0"
    (root / "f7").write_text("written")
    (mount,) = (m for m in mounts.read_mounts() if m.target == root)
    assert "nodev" in mount.options
    await machine.end(layer)


@pytest.mark.real
async def test_a_busy_root_is_kept_or_detached_as_asked(
    machine: Machine, start_python: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    layer = await machine.layers.create("i1", 64)
    root = await machine.roots.mount("i1", [machine.base], layer)
    user = start_python(f"import os; os.chdir({str(root)!r}); print('in'); input()")
    assert user.line() == "in"
    with pytest.raises(OSError, match="busy"):
        await machine.roots.unmount("i1", detach=False)
    assert machine.roots.list_owned() == ["i1"]
    await machine.roots.unmount("i1")
    assert machine.roots.list_owned() == []
    await machine.layers.destroy(layer)
    assert not layer.directory.exists()
    # Held by the process alone, and by nothing of ours.
    assert len(loopdev.list_attached(machine.layers.directory)) == 1
    await asyncio.to_thread(user.end)
    await eventually(lambda: loopdev.list_attached(machine.layers.directory) == {})
    await machine.end()


@pytest.mark.real
async def test_a_missing_lower_layer_is_told_and_leaves_no_mount(machine: Machine, tmp_path: Path) -> None:
    layer = await machine.layers.create("i1", 64)
    with pytest.raises(FileNotFoundError):
        await machine.roots.mount("i1", [tmp_path / "none"], layer)
    assert machine.roots.list_owned() == []
    await machine.end(layer)
