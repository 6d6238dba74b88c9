from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.core.snapshot import Saved, SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    FailedPrecondition,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from atolld.foundation.ids import SnapshotId
from atolld.host.archivehead import PREFIX_BYTES, open_head, rest_of_head, seal
from atolld.host.archivekeys import ArchiveKeys, open_keys, public_key_text
from atolld.host.instance import Instance
from atolld.host.saves import Saves
from atolld.host.templatelayers import TemplateLayers
from atolld.images.layerarchive import LayerArchives
from atolld.images.layers import LayerStore
from atolld.node.archives import SaveArchives

SAVE, COPY = SnapshotId("s0000000000000000001"), SnapshotId("s0000000000000000002")
THIRD = SnapshotId("s0000000000000000003")
DIGEST = "d" * 64
FACTS = {"name": "n", "agent_token": "secret"}


class Machine:
    """One machine's saves, template layers and keys, below `directory`."""

    def __init__(self, directory: Path, trust: tuple[str, ...] = ()) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.instance = Instance.named("test", state_dir=directory / "state", run_dir=directory / "run")
        self.instance.state_dir.mkdir(exist_ok=True)
        self.store = LayerStore(directory / "cache")
        templates = TemplateLayers(self.store.directory, self.instance)
        self.saves = Saves(self.instance.state_dir / "saves", templates, verify_disk_bytes=1 << 30)
        self.free = 1 << 40
        self.archives = SaveArchives(
            saves=self.saves,
            layers=LayerArchives(directory / "cache"),
            keys=lambda: self.keys(trust),
            free_bytes=lambda: self.free,
            reserve_bytes=1000,
        )
        self.admitted: list[tuple[Mapping[str, object], Saved]] = []
        self.refuse: AtollError | None = None

    def keys(self, trust: tuple[str, ...] = ()) -> ArchiveKeys:
        return open_keys(self.instance.state_dir, trust)

    def add_layer(self, digest: str = DIGEST, word: str = "tool") -> Path:
        building = self.store.begin()
        (building / "root/usr").mkdir()
        (building / "root/usr/tool").write_text(word)
        os.utime(building / "root/usr/tool", ns=(1, 2))
        return self.store.commit(building, digest, {"built_at": 5.0}).root

    def add_save(self, layer: Path, kind: SaveKind = SaveKind.MEMORY) -> None:
        memory = self.saves.begin(SAVE)
        if kind is SaveKind.MEMORY:
            (memory / "pages.img").write_bytes(random.Random(1).randbytes(2_500_000))
            (memory / "checkpoint.img").write_bytes(b"state")
        disk = self.directory / "disk"
        with disk.open("wb") as file:
            file.truncate(50 << 20)
            file.seek(30 << 20)
            file.write(b"data")
        self.saves.add_disk(SAVE, disk)
        self.saves.finish(SAVE, kind, "gvisor 1", layers=(layer,), created_at=7.0, stopped_s=0.5)

    async def export(self) -> bytes:
        return b"".join([piece async for piece in self.archives.write(SAVE, FACTS)])

    async def admit(self, facts: Mapping[str, object], saved: Saved) -> None:
        assert not self.left()
        self.admitted.append((facts, saved))
        if self.refuse is not None:
            raise self.refuse

    async def take(self, archive: bytes, step: int = 100_000) -> Saved:
        return await self.archives.read(COPY, pieces(archive, step), self.admit)

    def left(self) -> list[str]:
        """What an import made."""
        saves = os.listdir(self.saves.directory) if self.saves.directory.exists() else []
        layers = os.listdir(self.store.directory) if self.store.directory.exists() else []
        pins = [str(path) for path in self.store.directory.glob("*/pins/*") if COPY in path.name]
        return [*(name for name in saves if name != SAVE), *(name for name in layers if name != DIGEST), *pins]


async def pieces(archive: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(archive), step):
        yield archive[start : start + step]


@pytest.fixture
def here(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "here")
    made.add_save(made.add_layer())
    return made


@pytest.fixture
def there(tmp_path: Path, here: Machine) -> Machine:
    return Machine(tmp_path / "there", (public_key_text(here.keys().public),))


@pytest.mark.parametrize("step", [10_007, 1 << 30])
async def test_a_save_comes_to_another_machine_with_its_template(here: Machine, there: Machine, step: int) -> None:
    saved = await there.take(await here.export(), step)
    before, after = here.saves.verify(SAVE), there.saves.verify(COPY)
    content = after.layers[0]
    assert content != DIGEST
    assert replace(after, id=before.id, layers=before.layers, disk=before.disk, memory_bytes=0) == replace(
        before, memory_bytes=0
    )
    assert after.disk.checksum == before.disk.checksum
    assert saved == there.saves.manifest(COPY).saved()
    assert there.saves.check(COPY, SaveKind.MEMORY, "gvisor 1") == there.saves.home(COPY) / "memory"
    layer = there.store.get(content)
    assert layer is not None
    assert (layer.root / "usr/tool").read_text() == "tool"
    assert (layer.root / "usr/tool").stat().st_mtime_ns == 2
    assert layer.manifest["imported_as"] == DIGEST
    assert sorted(there.left()) == sorted([COPY, content, str(layer.root.parent / "pins" / f"test.{COPY}")])
    [(facts, expected)] = there.admitted
    assert facts == FACTS
    assert (expected.kind, expected.engine, expected.stopped_s) == (SaveKind.MEMORY, "gvisor 1", 0.5)


async def test_a_layer_with_the_same_contents_is_not_stored_again(here: Machine, there: Machine) -> None:
    there.add_layer()
    for machine in (here, there):
        for path in ("root", "root/usr"):
            os.utime(machine.store.directory / DIGEST / path, ns=(3, 3))
    await there.take(await here.export())
    assert there.saves.manifest(COPY).layers == (DIGEST,)


async def test_the_same_recipe_with_other_contents_is_another_layer(here: Machine, there: Machine) -> None:
    there.add_layer(word="other")
    await there.take(await here.export())
    [digest] = there.saves.manifest(COPY).layers
    assert (there.archives.layers.root(digest) / "usr/tool").read_text() == "tool"
    assert (there.archives.layers.root(DIGEST) / "usr/tool").read_text() == "other"


async def test_files_only(here: Machine, tmp_path: Path) -> None:
    source = Machine(tmp_path / "files")
    source.add_save(source.add_layer(), SaveKind.FILESYSTEM)
    archive = b"".join([piece async for piece in source.archives.write(SAVE, FACTS)])
    saved = await Machine(tmp_path / "files").take(archive)
    assert (saved.kind, saved.memory_bytes) == (SaveKind.FILESYSTEM, 0)


async def test_what_is_not_there_or_damaged_is_not_exported(here: Machine) -> None:
    with pytest.raises(NotFound):
        await anext(here.archives.write(COPY, FACTS))
    (here.saves.home(SAVE) / "memory/checkpoint.img").write_bytes(b"stat!")
    with pytest.raises(FailedPrecondition, match=r"checkpoint\.img"):
        await anext(here.archives.write(SAVE, FACTS))


async def test_a_machine_that_is_not_trusted(here: Machine, tmp_path: Path) -> None:
    stranger = Machine(tmp_path / "stranger")
    with pytest.raises(PermissionDenied, match="archive_trust") as refused:
        await stranger.take(await here.export())
    assert public_key_text(here.keys().public) in refused.value.message
    assert stranger.left() == []
    assert stranger.admitted == []


async def test_what_the_manifest_tells_is_judged_first(here: Machine, there: Machine) -> None:
    archive = await here.export()
    head = PREFIX_BYTES + rest_of_head(archive[:PREFIX_BYTES])
    manifest = open_head(archive[PREFIX_BYTES:head], here.keys())
    # Nothing behind the head is there at all, so whatever refuses it has not looked further.
    foreign = seal(replace(manifest, cpu_flags=frozenset({"a_flag_of_tomorrow"})), here.keys())
    with pytest.raises(FailedPrecondition, match="a_flag_of_tomorrow"):
        await there.take(foreign)
    there.free = 2_000_000
    with pytest.raises(Capacity, match="reserve"):
        await there.take(archive[:head])
    assert there.admitted == []
    there.free = 1 << 40
    there.refuse = LimitExceeded("full")
    with pytest.raises(LimitExceeded):
        await there.take(archive[:head])
    assert there.left() == []


def _flip(at: float) -> Callable[[bytearray], None]:
    def damage(archive: bytearray) -> None:
        archive[int(at * (len(archive) - 1))] ^= 1

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda archive: archive.clear(),
        lambda archive: archive.__delitem__(slice(5, None)),
        lambda archive: archive.__delitem__(slice(100, None)),
        lambda archive: archive.__delitem__(slice(len(archive) // 2, None)),
        lambda archive: archive.pop(),
        lambda archive: archive.append(0),
        lambda archive: archive.extend(archive),
        *(_flip(at / 20) for at in range(21)),
    ],
)
async def test_a_damaged_archive_leaves_nothing(
    here: Machine, there: Machine, damage: Callable[[bytearray], None]
) -> None:
    archive = bytearray(await here.export())
    damage(archive)
    with pytest.raises((InvalidArgument, PermissionDenied)):
        await there.take(bytes(archive))
    assert there.left() == []


async def test_random_damage(here: Machine, tmp_path: Path) -> None:
    good = await here.export()
    expected = here.saves.verify(SAVE)
    chance = random.Random(3)
    for number in range(60):
        archive = bytearray(good)
        for _ in range(chance.randrange(1, 3)):
            at = chance.choice([chance.randrange(2000), chance.randrange(len(archive)), len(archive) - 1])
            match chance.randrange(3):
                case 0:
                    archive[at] ^= 1 << chance.randrange(8)
                case 1:
                    del archive[at : at + chance.randrange(1, 9)]
                case _:
                    archive[at:at] = chance.randbytes(chance.randrange(1, 9))
        if archive == good:
            continue
        there = Machine(tmp_path / f"there-{number}", (public_key_text(here.keys().public),))
        try:
            await there.take(bytes(archive), chance.choice([1000, 1 << 20]))
        except (InvalidArgument, PermissionDenied):
            assert there.left() == []
        else:
            # A deflated stream has bits that mean nothing: what was taken in must be what was exported, to the byte.
            taken = there.saves.verify(COPY)
            assert (taken.disk.checksum, taken.memory) == (expected.disk.checksum, expected.memory)
            layer = there.store.get(taken.layers[0])
            assert layer is not None
            assert (layer.root / "usr/tool").read_text() == "tool"


def _write(root: Path) -> None:
    (root / "usr/tool").write_text("evil")
    os.utime(root / "usr/tool", ns=(1, 2))


CHANGES: list[Callable[[Path], object]] = [
    _write,
    lambda root: (root / "usr/tool").chmod(0o4755),
    lambda root: (root / "usr/tool").unlink(),
    lambda root: (root / "usr/more").touch(),
    lambda root: root.chmod(0o700),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_layer_that_was_changed_after_it_was_measured_is_not_exported(
    here: Machine, change: Callable[[Path], object]
) -> None:
    await here.export()
    change(here.archives.layers.root(DIGEST))
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=f"{DIGEST} were changed in .* pull or build it again"):
            await here.export()


async def test_a_layer_that_only_looks_changed_is_exported(here: Machine, there: Machine) -> None:
    before = await here.export()
    tool = here.archives.layers.root(DIGEST) / "usr/tool"
    os.link(tool, here.directory / "elsewhere")
    measured = tool.parents[2] / "contents.json"
    looked = measured.read_text()
    assert len(await here.export()) == len(before)
    assert measured.read_text() != looked
    # As before there was that: nothing tells how the files looked.
    measured.write_text(json.dumps({k: v for k, v in json.loads(looked).items() if k != "looks"}))
    await there.take(await here.export())


async def test_a_changed_layer_is_not_what_an_archive_needs(here: Machine, there: Machine) -> None:
    there.add_layer()
    there.archives.layers.describe(DIGEST)
    archive = await here.export()
    (there.archives.layers.root(DIGEST) / "usr/tool").write_text("evil")
    await there.take(archive)
    [digest] = there.saves.manifest(COPY).layers
    assert (there.archives.layers.root(digest) / "usr/tool").read_text() == "tool"
    # And now the one that was imported.

    async def admit(facts: Mapping[str, object], saved: Saved) -> None:
        pass

    (there.archives.layers.root(digest) / "usr/tool").write_text("evil")
    kept = there.left()
    with pytest.raises(FailedPrecondition, match=f"{digest} were changed"):
        await there.archives.read(THIRD, pieces(archive, 100_000), admit)
    assert there.left() == kept


async def test_a_layer_that_is_no_tar_leaves_nothing(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Signed by a machine that is trusted, and wrong all the same.
    monkeypatch.setattr("atolld.images.layerarchive.pack", lambda root: iter([b"x" * 10_240]))
    archive = await here.export()
    monkeypatch.undo()
    with pytest.raises(InvalidArgument, match="tar"):
        await there.take(archive)
    assert there.left() == []


async def test_a_save_that_cannot_be_finished_leaves_no_layer(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise Capacity("full")

    monkeypatch.setattr(there.saves, "finish", fail)
    with pytest.raises(Capacity):
        await there.take(await here.export())
    assert there.left() == []


async def test_a_caller_that_goes_away_leaves_nothing(here: Machine, there: Machine) -> None:
    archive = await here.export()
    reached, never = asyncio.Event(), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield archive[: len(archive) // 2]
        reached.set()
        await never.wait()

    task = spawn(there.archives.read(COPY, half(), there.admit), name="import", report=False)
    await reached.wait()
    assert there.left()
    await cancel_and_wait(task)
    assert there.left() == []
