"""Saves: whole or not there, verified, deleted. On plain files; with real disks in server/tests/node/test_linux.py."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from atolld.core.snapshot import SaveKind
from atolld.foundation.errors import AlreadyExists, AtollError, Capacity, FailedPrecondition, InvalidArgument, NotFound
from atolld.host import saves as module
from atolld.host.instance import Instance
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers, is_pinned

ENGINE = "gvisor 1"


class Stage:
    """A directory of saves, a disk to save and a template below it."""

    def __init__(self, tmp_path: Path, instance: Instance) -> None:
        self.layer = tmp_path / "layers" / "aa" / "root"
        self.layer.mkdir(parents=True)
        self.image = tmp_path / "disk.img"
        with open(self.image, "wb") as file:
            file.truncate(1 << 24)
            file.write(b"x" * 100_000)
        self.templates = TemplateLayers(tmp_path / "layers", instance)
        self.saves = self.restart()

    def restart(self, verify_disk_bytes: int = 1 << 20) -> Saves:
        return Saves(self.image.parent / "saves", self.templates, verify_disk_bytes=verify_disk_bytes)

    def begin(self, id: str = "s1", *, memory: bool = True) -> None:
        directory = self.saves.begin(id)
        if memory:
            (directory / "pages.img").write_bytes(b"p" * 5000)
            (directory / "checkpoint.img").write_bytes(b"c")

    def save(self, id: str = "s1", kind: SaveKind = SaveKind.MEMORY) -> Path:
        self.begin(id, memory=kind is SaveKind.MEMORY)
        self.saves.add_disk(id, self.image)
        self.saves.finish(id, kind, ENGINE, layers=(self.layer,), created_at=1.0, stopped_s=0.5)
        return self.saves.home(id)


@pytest.fixture
def stage(tmp_path: Path, instance: Instance) -> Stage:
    return Stage(tmp_path, instance)


def names(stage: Stage) -> list[str]:
    return sorted(os.listdir(stage.saves.directory))


@pytest.mark.parametrize("kind", SaveKind)
def test_a_save_becomes_whole_with_its_last_step(stage: Stage, kind: SaveKind) -> None:
    home = stage.save(kind=kind)
    assert names(stage) == ["s1"]
    assert sorted(os.listdir(home)) == ["disk.img", "manifest.json", "memory"]
    assert home.stat().st_mode & 0o777 == 0o700
    found = stage.restart()
    saved = found.manifest("s1").saved()
    assert (saved.kind, saved.engine, saved.stopped_s, saved.layers) == (kind, ENGINE, 0.5, ("aa",))
    assert saved.disk_bytes >= 100_000
    assert (saved.memory_bytes > 5000) is (kind is SaveKind.MEMORY)
    assert found.check("s1", kind, ENGINE) == home / "memory"
    assert found.verify("s1") == found.manifest("s1")
    assert (home / "disk.img").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_what_is_not_whole_is_not_there(stage: Stage, steps: int) -> None:
    if steps > 0:
        stage.begin()
    if steps > 1:
        stage.saves.add_disk("s1", stage.image)
    with pytest.raises(NotFound):
        stage.saves.manifest("s1")
    for _ in range(2):
        stage.saves.abandon("s1")
    assert not stage.saves.directory.exists() or names(stage) == []
    stage.save()


def test_steps_out_of_order_are_refused(stage: Stage) -> None:
    with pytest.raises(NotFound, match="not begun"):
        stage.saves.add_disk("s1", stage.image)
    stage.begin()
    with pytest.raises(AlreadyExists):
        stage.saves.begin("s1")
    with pytest.raises(NotFound, match="no disk"):
        stage.saves.finish("s1", SaveKind.MEMORY, ENGINE, layers=(stage.layer,), created_at=1, stopped_s=0)
    with pytest.raises(NotFound, match=r"gone\.img"):
        stage.saves.add_disk("s1", stage.image.with_name("gone.img"))
    stage.saves.abandon("s1")
    home = stage.save()
    with pytest.raises(AlreadyExists):
        stage.saves.begin("s1")
    stage.saves.abandon("s1")
    assert home.exists()
    assert is_pinned(stage.layer.parent)


@pytest.mark.parametrize("id", ["", "..", ".saves", "a/b", "s1.part"])
def test_hostile_ids_make_no_path(stage: Stage, id: str) -> None:
    for call in (stage.saves.begin, stage.saves.home, stage.saves.discard, stage.saves.abandon):
        with pytest.raises(InvalidArgument):
            call(id)


def flip(path: Path, at: int = 500) -> None:
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("memory/pages.img", flip, "memory/pages.img is not as it was written"),
        ("memory/pages.img", os.unlink, "memory/pages.img is gone"),
        ("memory/pages.img", lambda path: os.truncate(path, 10), "memory/pages.img has 10 bytes instead of 5000"),
        ("disk.img", flip, "disk.img is not as it was written"),
        ("disk.img", lambda path: flip(path, 8_000_000), "disk.img is not as it was written"),
        ("disk.img", os.unlink, "disk.img is gone"),
        ("disk.img", lambda path: os.truncate(path, 1 << 20), "disk.img has 1048576 bytes"),
        ("manifest.json", flip, "manifest.json is not as it was written"),
        ("manifest.json", os.unlink, "manifest.json is gone"),
    ],
)
def test_damage_is_found_and_named(stage: Stage, file: str, damage: object, message: str) -> None:
    assert callable(damage)
    damage(stage.save() / file)

    def before_a_start() -> None:
        stage.saves.check("s1", SaveKind.MEMORY, ENGINE)
        stage.saves.check_memory("s1")

    for call in (before_a_start, lambda: stage.saves.verify("s1")):
        with pytest.raises(FailedPrecondition, match=message):
            call()
    if file.startswith("memory"):
        stage.saves.check("s1", SaveKind.FILESYSTEM, None)


def test_a_large_disk_is_read_only_when_all_is_verified(stage: Stage) -> None:
    flip(stage.save() / "disk.img")
    small = stage.restart(verify_disk_bytes=0)
    small.check("s1", SaveKind.MEMORY, ENGINE)
    with pytest.raises(FailedPrecondition, match=r"disk\.img"):
        small.verify("s1")


@pytest.mark.parametrize(
    ("saved", "wanted", "engine", "message"),
    [
        (SaveKind.MEMORY, SaveKind.MEMORY, "gvisor 2", "written by gvisor 1.*has gvisor 2"),
        (SaveKind.MEMORY, SaveKind.MEMORY, None, None),
        (SaveKind.MEMORY, SaveKind.FILESYSTEM, "gvisor 2", None),
        (SaveKind.FILESYSTEM, SaveKind.FILESYSTEM, "gvisor 2", None),
        (SaveKind.FILESYSTEM, SaveKind.MEMORY, ENGINE, "holds files only"),
    ],
)
def test_what_a_save_can_be_used_for(
    stage: Stage, saved: SaveKind, wanted: SaveKind, engine: str | None, message: str | None
) -> None:
    stage.save(kind=saved)
    if message is None:
        stage.saves.check("s1", wanted, engine)
        return
    with pytest.raises(FailedPrecondition, match=message):
        stage.saves.check("s1", wanted, engine)


def test_another_cpu_is_told_and_the_files_can_still_be_used(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_cpu_flags", lambda: frozenset({"avx", "amx_tile"}))
    stage.save()
    monkeypatch.setattr(module, "read_cpu_flags", lambda: frozenset({"avx", "avx2"}))
    with pytest.raises(FailedPrecondition, match="amx_tile"):
        stage.saves.check("s1", SaveKind.MEMORY, ENGINE)
    stage.saves.check("s1", SaveKind.FILESYSTEM, ENGINE)


def test_a_template_layer_that_is_gone_is_told(stage: Stage) -> None:
    stage.save()
    shutil.rmtree(stage.layer)
    with pytest.raises(FailedPrecondition, match="layer aa, which is gone"):
        stage.saves.check("s1", SaveKind.FILESYSTEM, None)


def test_discarding_is_idempotent_and_lets_the_layers_go(stage: Stage) -> None:
    stage.save()
    assert is_pinned(stage.layer.parent)
    for _ in range(2):
        stage.saves.discard("s1")
    assert names(stage) == []
    assert not is_pinned(stage.layer.parent)


def test_a_sweep_leaves_what_is_kept_and_what_is_being_written(stage: Stage) -> None:
    for id in ("kept", "dropped"):
        stage.save(id)
    for leftover in ("kept2.part", "half.part", "late.gone"):
        (stage.saves.directory / leftover / "memory").mkdir(parents=True)
    stage.templates.pin("ghost", ["aa"])
    stage.begin("now")
    assert stage.saves.sweep({"kept", "kept2"}) == ["dropped", "half", "kept2", "late"]
    assert names(stage) == ["kept", "now.part"]
    assert os.listdir(stage.layer.parent / "pins") == [f"{stage.templates._name('kept')}"]
    stage.saves.add_disk("now", stage.image)
    stage.saves.abandon("now")
    stage.saves.remove_all()
    assert not stage.saves.directory.exists()
    assert not is_pinned(stage.layer.parent)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("broken", ["clone_file", "_sync"])
def test_a_full_disk_is_told_and_the_save_can_be_abandoned(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int, broken: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(module, broken, full)
    with pytest.raises(Capacity, match="the disk is full"):
        stage.save()
    stage.saves.abandon("s1")
    assert names(stage) == []
    assert not is_pinned(stage.layer.parent)


def test_other_faults_are_told_as_they_are(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(module, "clone_file", broken)
    with pytest.raises(OSError, match="broken") as caught:
        stage.save()
    assert not isinstance(caught.value, AtollError)


def test_what_a_killed_daemon_began_can_be_begun_again(stage: Stage) -> None:
    stage.begin()
    stage.saves = stage.restart()
    assert stage.saves.sweep(()) == ["s1"]
    stage.begin()
    stage.saves = stage.restart()
    stage.save()


def test_variables_are_kept_for_root_alone(stage: Stage) -> None:
    envs = {"KEY": "secret\n=ü", "EMPTY": ""}
    stage.begin()
    stage.saves.add_disk("s1", stage.image)
    stage.saves.finish("s1", SaveKind.MEMORY, ENGINE, layers=(stage.layer,), created_at=1.0, stopped_s=0.5, envs=envs)
    path = stage.saves.home("s1") / "envs.json"
    assert path.stat().st_mode & 0o777 == 0o600
    found = stage.restart()
    assert found.envs("s1") == envs
    path.write_text("{")
    with pytest.raises(FailedPrecondition, match=r"envs\.json"):
        found.envs("s1")
    path.unlink()
    assert found.envs("s1") == {}
    with pytest.raises(NotFound):
        found.envs("s2")
