"""The store: what is chosen and why, made once, opened again, gone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.foundation.errors import Unavailable
from atolld.foundation.units import GIB, MIB
from atolld.host import diskstore, facts, loopdev, mounts
from atolld.host.diskstore import DiskStore, StoreChoice, StoreKind
from atolld.host.facts import Disk
from atolld.host.instance import Instance
from atolld.host.layers import Layers
from atolld.host.sparse import clone_file

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Play a machine whose file system clones or not, with or without mkfs.xfs, XFS and room."""

    def play(*, clones: bool = False, mkfs: bool = True, kernel: bool = True, free_bytes: int = 100 * GIB) -> None:
        monkeypatch.setattr(diskstore, "can_clone", lambda _: clones)
        monkeypatch.setattr(diskstore, "_find_mkfs", lambda: "mkfs.xfs" if mkfs else None)
        monkeypatch.setattr(diskstore, "kernel_has_xfs", lambda: kernel)
        monkeypatch.setattr(facts, "read_disk", lambda _: Disk(2 * free_bytes, free_bytes))

    return play


@pytest.mark.parametrize(
    ("choice", "traits", "kind", "reason"),
    [
        ("auto", {"clones": True}, "plain", "can clone"),
        ("auto", {}, "xfs", "cannot clone"),
        ("auto", {"mkfs": False}, "plain", "xfsprogs"),
        ("auto", {"kernel": False}, "plain", "kernel has no xfs"),
        ("auto", {"free_bytes": 2 * GIB}, "plain", "too small"),
        ("plain", {}, "plain", "asks for it"),
        ("xfs", {"clones": True}, "xfs", "cannot clone"),
    ],
)
def test_what_is_chosen_and_why(
    instance: Instance, machine: Machine, choice: str, traits: dict[str, bool], kind: str, reason: str
) -> None:
    machine(**traits)
    plan = DiskStore(instance, choice=StoreChoice(choice), reserve_mib=2048).plan()
    assert plan.kind == kind
    assert kind == "xfs" or reason in plan.reason
    assert plan.clones is (kind == "xfs" or traits.get("clones", False))


@pytest.mark.parametrize("choice", StoreChoice)
def test_a_store_that_is_there_stays(instance: Instance, machine: Machine, choice: StoreChoice) -> None:
    machine(clones=True)
    instance.state_dir.mkdir()
    store = DiskStore(instance, choice=choice)
    store.image.touch()
    assert store.plan().kind is StoreKind.XFS


@pytest.mark.parametrize("choice", [StoreChoice.AUTO, StoreChoice.XFS])
def test_saves_in_a_plain_directory_keep_it(instance: Instance, machine: Machine, choice: StoreChoice) -> None:
    machine()
    store = DiskStore(instance, choice=choice)
    (store.directory / ".saves" / "s1").mkdir(parents=True)
    plan = store.open()
    assert (plan.kind, plan.clones) == (StoreKind.PLAIN, False)
    assert "saves" in plan.reason


@pytest.mark.parametrize("fault", ["mkfs", "kernel"])
def test_asked_for_and_not_to_be_had_is_an_error(instance: Instance, machine: Machine, fault: str) -> None:
    machine(**{fault: False})
    with pytest.raises(Unavailable, match="xfs"):
        DiskStore(instance, choice=StoreChoice.XFS).open()


def test_free_space_is_the_smaller_of_the_two(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskStore(instance)
    free = {store.directory: 5, instance.state_dir: 9}
    monkeypatch.setattr(facts, "read_disk", lambda path: Disk(10, free[path]))
    assert store.free_bytes() == 5
    free[instance.state_dir] = 3
    assert store.free_bytes() == 3


@pytest.mark.real
async def test_a_store_is_made_opened_again_and_removed(instance: Instance, clean: None) -> None:
    store = DiskStore(instance, choice=StoreChoice.XFS, size_mib=320)
    plan = store.open()
    assert plan.kind is StoreKind.XFS
    assert store.image.stat().st_size == 320 * MIB
    assert store.image.stat().st_blocks * 512 < 100 * MIB
    assert store.free_bytes() < 320 * MIB
    # A restarted daemon finds it mounted.
    layers = Layers(instance)
    layers.prepare()
    assert store.open().kind is StoreKind.XFS
    (mount,) = [one for one in mounts.read_mounts() if one.target == store.directory]
    assert mount.shared and mount.kind == "xfs" and "nodev" in mount.options
    assert store.directory.stat().st_mode & 0o777 == 0o700
    layer = await layers.create("a", 64)
    (layer.upper / "kept").write_text("data")
    await layers.unmount(layer)
    assert clone_file(layer.image, store.directory / ".clone.img")
    # A machine that was started again finds the image.
    mounts.unmount(store.directory)
    assert loopdev.list_attached(instance.state_dir) == {}
    assert DiskStore(instance, choice=StoreChoice.AUTO).open().kind is StoreKind.XFS
    layers.prepare()
    await layers.mount(layer)
    assert (layer.upper / "kept").read_text() == "data"
    layers.remove_all()
    for _ in range(2):
        store.remove()
    assert not store.image.exists()


@pytest.mark.real
async def test_a_plain_directory_with_a_living_sandbox_stays_and_an_idle_one_does_not(
    instance: Instance, clean: None
) -> None:
    layers = Layers(instance)
    layers.prepare()
    for id in ("ready-0", "left"):
        await layers.create(id, 64)
    await layers.unmount(layers.get("left"))
    living = await layers.create("living", 64)
    store = DiskStore(instance, choice=StoreChoice.XFS, size_mib=320)
    assert store.open().kind is StoreKind.PLAIN
    assert layers.list_owned()[1] == living
    await layers.destroy(living)
    assert store.open().kind is StoreKind.XFS
    assert layers.list_owned() == []
    layers.prepare()
    layers.remove_all()
    store.remove()


@pytest.mark.real
def test_a_store_that_cannot_be_mounted_is_told_and_never_replaced(instance: Instance, clean: None) -> None:
    instance.state_dir.mkdir()
    store = DiskStore(instance)
    store.image.write_bytes(b"x" * MIB)
    with pytest.raises(Unavailable, match="cannot be mounted"):
        store.open()
    assert store.image.read_bytes() == b"x" * MIB
    assert not os.path.ismount(store.directory)


@pytest.mark.real
def test_a_failed_format_leaves_nothing(instance: Instance, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskStore, "_size_bytes", lambda _: 2 * GIB)
    monkeypatch.setattr(diskstore, "_find_mkfs", lambda: "/bin/false")
    with pytest.raises(Unavailable, match=r"mkfs\.xfs cannot"):
        DiskStore(instance, choice=StoreChoice.XFS).open()
    assert [path.name for path in Path(instance.state_dir).iterdir()] == []
