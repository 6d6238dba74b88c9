from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Internal, InvalidArgument, NotFound
from atolld.images.build_environment import BuildEnvironment, release_of
from atolld.images.progress import Progress, ProgressCallback
from atolld.images.recipe import Recipe
from atolld.images.templates import TemplateStore

from .publicnames import MIRROR, with_names

DPKG_STATUS = """\
Package: bash
Status: install ok installed
Version: 5.2.15-2+b13
Description: GNU shell
 continued: with a colon

Package: gone
Status: deinstall ok config-files
Version: 1.0
"""


class FakeBuilder:
    """Stands for mmdebstrap: writes the few files a build looks at afterwards."""

    def __init__(self) -> None:
        self.builds = 0
        self.before: Callable[[Path], Awaitable[None]] | None = None

    async def __call__(
        self, recipe: Recipe, environment: BuildEnvironment, root: Path, log: Path, progress: ProgressCallback
    ) -> None:
        self.builds += 1
        for name in ("etc/apt/sources.list.d", "var/lib/dpkg", "home/user"):
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").write_text(DPKG_STATUS)
        progress(Progress("unpack", 50.0, "half"))
        if self.before is not None:
            await self.before(root)


def _store(cache: Path, builder: FakeBuilder, codename: str = "bookworm") -> TemplateStore:
    return TemplateStore(
        cache,
        inherit_host=False,
        release=release_of("debian", codename),
        build_root=builder,
        with_public_sources=with_names,
        clock=ManualClock(1_700_000_000),
    )


async def test_base_is_built_once(tmp_path: Path) -> None:
    steps: list[Progress] = []
    builder = FakeBuilder()
    store = _store(tmp_path, builder)
    with pytest.raises(NotFound, match="none is built yet"):
        store.get("base")
    template = await store.ensure_base(steps.append)
    assert await store.ensure_base() == template == store.get("base")
    assert store.list() == (template,)
    assert builder.builds == 1
    assert [step.phase for step in steps] == ["start", "unpack", "scrub", "store", "done"]
    assert template.name == "base" and template.built_at == 1_700_000_000
    assert template.layers == (tmp_path / "layers" / template.inputs_digest / "root",)
    assert (template.layers[0] / "etc/hostname").read_text() == "sandbox\n"
    assert f"http://{MIRROR}/debian" in (template.layers[0] / "etc/apt/sources.list.d/debian.sources").read_text()
    manifest = (template.layers[0].parent / "manifest.json").read_text()
    assert '"bash": "5.2.15-2+b13"' in manifest and "gone" not in manifest


async def test_builds_at_once_share_one_result_and_the_waiting_one_says_so(tmp_path: Path) -> None:
    builder, gate, told = FakeBuilder(), asyncio.Event(), asyncio.Event()

    async def hold(_: Path) -> None:
        await gate.wait()

    builder.before = hold

    def notice(step: Progress) -> None:
        if step.phase == "wait":
            told.set()
            gate.set()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(_store(tmp_path, builder).ensure_base(notice))
        second = group.create_task(_store(tmp_path, builder).ensure_base(notice))
    assert told.is_set()
    assert first.result() == second.result()
    assert builder.builds == 1


async def test_other_inputs_replace_base_and_prune_removes_the_old_layer(tmp_path: Path) -> None:
    builder = FakeBuilder()
    old = await _store(tmp_path, builder).ensure_base()
    store = _store(tmp_path, builder, "trixie")
    new = await store.ensure_base()
    assert new.inputs_digest != old.inputs_digest and new.id != old.id
    assert store.get("base") == new
    assert await store.prune(in_use=old.layers) == ()
    assert old.layers[0].is_dir()
    pin = old.layers[0].parent / "pins" / "atoll.s1"
    pin.parent.mkdir()
    pin.touch()
    assert await store.prune() == ()
    pin.unlink()
    assert await store.prune() == (old.inputs_digest,)
    assert not old.layers[0].exists() and new.layers[0].is_dir()
    # The layer of the first inputs is gone, so going back builds again.
    assert (await _store(tmp_path, builder).ensure_base()).inputs_digest == old.inputs_digest
    assert builder.builds == 3


async def test_going_back_to_inputs_whose_layer_is_there_builds_nothing(tmp_path: Path) -> None:
    builder = FakeBuilder()
    old = await _store(tmp_path, builder).ensure_base()
    await _store(tmp_path, builder, "trixie").ensure_base()
    assert await _store(tmp_path, builder).ensure_base() == old
    assert builder.builds == 2


async def test_a_failed_build_leaves_nothing_and_keeps_the_previous_base(tmp_path: Path) -> None:
    builder = FakeBuilder()
    old = await _store(tmp_path, builder).ensure_base()

    async def fail(_: Path) -> None:
        raise Internal("the mirror is on fire")

    builder.before = fail
    store = _store(tmp_path, builder, "trixie")
    with pytest.raises(Internal, match="on fire"):
        await store.ensure_base()
    assert store.get("base") == old
    assert os.listdir(tmp_path / "layers") == [old.inputs_digest]


async def test_a_cancelled_build_leaves_nothing(tmp_path: Path) -> None:
    builder, reached = FakeBuilder(), asyncio.Event()

    async def hang(_: Path) -> None:
        reached.set()
        await asyncio.Event().wait()

    builder.before = hang
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_store(tmp_path, builder).ensure_base())
        await reached.wait()
        task.cancel()
    assert task.cancelled()
    assert os.listdir(tmp_path / "layers") == []


async def test_leftovers_of_a_killed_build_are_removed_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / "layers/.building-killed/root/etc"
    leftover.mkdir(parents=True)
    template = await _store(tmp_path, FakeBuilder()).ensure_base()
    assert os.listdir(tmp_path / "layers") == [template.inputs_digest]


async def test_a_layer_damaged_by_hand_is_built_anew(tmp_path: Path) -> None:
    builder = FakeBuilder()
    store = _store(tmp_path, builder)
    template = await store.ensure_base()
    (template.layers[0].parent / "manifest.json").unlink()
    with pytest.raises(NotFound):
        store.get("base")
    assert (await store.ensure_base()).layers == template.layers
    assert builder.builds == 2


@pytest.mark.parametrize("name", ["", "..", "a/b", "../base", "Base", "x" * 65])
def test_a_name_is_checked_before_it_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        _store(tmp_path, FakeBuilder()).get(name)


async def test_a_template_is_read_again_only_when_it_was_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = _store(tmp_path, FakeBuilder()), _store(tmp_path, FakeBuilder())
    template = await store.ensure_base()
    reads: list[Path] = []
    read_text = Path.read_text

    def counting(path: Path, *args: str, **options: str) -> str:
        reads.append(path)
        return read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", counting)
    assert store.get("base") == store.get("base") == template
    assert reads == []
    # By another process, too.
    path = tmp_path / "templates" / "base.json"
    stored = json.loads(read_text(path))
    stored["inputs_digest"] = "f" * 64
    path.with_suffix(".part").write_text(json.dumps(stored))
    path.with_suffix(".part").rename(path)
    assert store.get("base").inputs_digest == "f" * 64 == other.get("base").inputs_digest
    path.unlink()
    with pytest.raises(NotFound):
        store.get("base")
