from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atolld.foundation.errors import NotFound, Unavailable
from atolld.foundation.ids import ProjectId
from atolld.images import engine as module
from atolld.images.engine import ImageEngine
from atolld.images.layers import LayerStore
from atolld.images.locks import shared
from atolld.images.oci import host_platform
from atolld.images.pull import Puller, PullProgress
from atolld.images.reference import parse_reference
from atolld.images.templates import TemplateStore

from .fakeregistry import FakeRegistry
from .tars import MadeImage, entry, folder, tar

PROJECT = ProjectId("p-1")
BOX = parse_reference("r.example/box:1")
HOST = host_platform("x86_64")
LAYER = tar(folder("etc"), entry("etc/release", data=b"1" * 5000))


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    made.add("1", MadeImage([LAYER]))
    return made


@pytest.fixture
def engine(tmp_path: Path, registry: FakeRegistry) -> ImageEngine:
    puller = Puller(tmp_path, platform=HOST, registry=registry.open, reserve_bytes=0)
    return ImageEngine(tmp_path, TemplateStore(tmp_path), puller=puller)


async def pull(engine: ImageEngine) -> list[PullProgress]:
    told: list[PullProgress] = []
    await engine.pull(PROJECT, BOX, None, False, told.append)
    return told


async def archive(engine: ImageEngine, name: str) -> bytes:
    return b"".join([piece async for piece in engine.export(PROJECT, name)])


async def test_an_image_comes_and_goes(engine: ImageEngine) -> None:
    assert (await pull(engine))[-1].phase == "done"
    (image,) = engine.list(PROJECT)
    assert engine.get(PROJECT, BOX) == image
    assert image.defaults.user == "root"
    engine.delete(PROJECT, BOX)
    assert list(await engine.prune()) == [path.parent.name for path in image.layers]
    assert engine.list(PROJECT) == []


async def test_an_export_is_an_import(engine: ImageEngine) -> None:
    await pull(engine)
    data = await archive(engine, "r.example/box:1")
    assert data.count(b"1" * 5000) == 1
    with pytest.raises(NotFound):
        await archive(engine, "r.example/other")


async def test_a_template_is_exported_as_an_image(engine: ImageEngine, tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    building = store.begin()
    (building / "root/file").write_text("x")
    layer = store.commit(building, "a" * 64, {"built_at": 1.0})
    (tmp_path / "templates").mkdir()
    stored = {"layers": [layer.digest], "inputs_digest": layer.digest}
    (tmp_path / "templates/base.json").write_text(json.dumps(stored))
    assert b'"localhost/base:latest"' in await archive(engine, "base")


async def test_pruning_waits_for_pulls_so_long_only(
    engine: ImageEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pull(engine)
    monkeypatch.setattr(module, "PRUNE_PATIENCE_S", 0.01)
    async with shared(tmp_path / "images" / "pull.lock"):
        with pytest.raises(Unavailable, match="when they are done"):
            await engine.prune()
        # Pulls do not keep each other waiting.
        await asyncio.wait_for(pull(engine), 5)
