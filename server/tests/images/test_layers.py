from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atolld.host import mounts, syscalls
from atolld.images.layers import USE_S, LayerStore, disk_usage, remove_tree

DIGEST = "ab" * 32
OTHER = "cd" * 32


def _built(store: LayerStore, text: str) -> Path:
    building = store.begin()
    (building / "root/file").write_text(text)
    return building


def test_a_layer_is_there_only_when_committed(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    building = _built(store, "one")
    assert store.get(DIGEST) is None
    assert store.digests() == []
    layer = store.commit(building, DIGEST, {"inputs": {"a": 1}})
    assert (layer.root / "file").read_text() == "one"
    found = store.get(DIGEST)
    assert found is not None and found.root == tmp_path / "layers" / DIGEST / "root"
    assert found.manifest["inputs"] == {"a": 1}
    assert found.size_bytes == layer.size_bytes > 0
    assert store.digests() == [DIGEST]
    assert not building.exists()


def test_the_layer_that_was_there_first_stays(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    store.commit(_built(store, "first"), DIGEST, {})
    layer = store.commit(_built(store, "second"), DIGEST, {})
    assert (layer.root / "file").read_text() == "first"
    assert os.listdir(store.directory) == [DIGEST]


def test_leftovers_of_killed_builds_go_and_layers_stay(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    assert store.remove_leftovers() == 0
    store.commit(_built(store, "kept"), DIGEST, {})
    for name in (".building-killed", ".building-killed-too"):
        (store.directory / name / "root/dir").mkdir(parents=True)
    assert store.remove_leftovers() == 2
    assert os.listdir(store.directory) == [DIGEST]


def test_what_somebody_builds_now_is_no_leftover(tmp_path: Path) -> None:
    store, other = LayerStore(tmp_path), LayerStore(tmp_path)
    building = _built(store, "x")
    assert other.remove_leftovers() == 0
    assert other.get(DIGEST) is None
    assert store.commit(building, DIGEST, {}).root.joinpath("file").read_text() == "x"
    store.abandon(_built(store, "y"))
    assert os.listdir(store.directory) == [DIGEST]


def test_leftovers_of_a_killed_process_are_nobodys(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from atolld.images.layers import LayerStore; "
        f"LayerStore(pathlib.Path({str(tmp_path)!r})).begin(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    store = LayerStore(tmp_path)
    assert len(os.listdir(store.directory)) == 1
    assert store.remove_leftovers() == 1
    assert os.listdir(store.directory) == []


def test_builders_of_one_digest_at_once_and_one_who_cleans(tmp_path: Path) -> None:
    """Whoever commits finds a whole layer, however it is raced."""

    def build(number: int) -> str:
        store = LayerStore(tmp_path)
        layer = store.commit(_built(store, str(number)), DIGEST, {}, used_at=1000.0)
        return (layer.root / "file").read_text()

    def clean(_: int) -> None:
        store = LayerStore(tmp_path)
        store.remove_leftovers()
        store.drop(DIGEST, 1000.0)

    with ThreadPoolExecutor(12) as pool:
        cleaned = [pool.submit(clean, number) for number in range(40)]
        built = [pool.submit(build, number) for number in range(40)]
        texts = {one.result() for one in built}
        for one in cleaned:
            one.result()
    assert len(texts) == 1
    assert os.listdir(tmp_path / "layers") == [DIGEST]


def test_a_layer_that_was_asked_for_is_not_dropped_for_an_hour(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    assert store.use(DIGEST, 5000.0) is None
    store.commit(_built(store, "x"), DIGEST, {})
    used = store.use(DIGEST, 5000.0)
    assert used is not None and used.digest == DIGEST
    assert not store.drop(DIGEST, 5000.0 + USE_S - 1)
    assert store.drop(DIGEST, 5000.0 + USE_S)
    assert not store.drop(DIGEST, 9e9)


def test_a_pinned_layer_is_not_dropped(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    layer = store.commit(_built(store, "x"), DIGEST, {})
    pin = layer.root.parent / "pins" / "atoll.some"
    pin.parent.mkdir()
    pin.touch()
    assert not store.drop(DIGEST, 9e9)
    pin.unlink()
    assert store.drop(DIGEST, 9e9)


def test_remove_is_idempotent_and_takes_digests_only(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    store.commit(_built(store, "x"), DIGEST, {})
    (tmp_path / "precious").write_text("stays")
    for name in (OTHER, "..", "../precious", "", DIGEST, DIGEST):
        store.remove(name)
    assert os.listdir(store.directory) == []
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("name", ["..", "", "AB" * 32, "ab" * 31, "../layers/" + DIGEST])
def test_get_takes_digests_only(tmp_path: Path, name: str) -> None:
    store = LayerStore(tmp_path)
    store.commit(_built(store, "x"), DIGEST, {})
    assert store.get(name) is None


def test_a_damaged_manifest_is_told_and_not_taken_for_a_missing_layer(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    store.commit(_built(store, "x"), DIGEST, {})
    (store.directory / DIGEST / "manifest.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        store.get(DIGEST)


def test_disk_usage_counts_a_file_with_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(os.urandom(1 << 20))
    once = disk_usage(tmp_path)
    os.link(tmp_path / "d/a", tmp_path / "d/b")
    (tmp_path / "d/link").symlink_to("/")
    assert 1 << 20 <= once
    assert disk_usage(tmp_path) == once


@pytest.mark.real
def test_what_is_mounted_in_a_leftover_is_unmounted_not_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    doomed = tmp_path / "doomed"
    (doomed / "root/proc").mkdir(parents=True)
    syscalls.mount(str(outside), doomed / "root/proc", None, syscalls.MS_BIND)
    remove_tree(doomed)
    assert not doomed.exists()
    assert (outside / "precious").read_text() == "stays"
    assert mounts.mounts_below(doomed) == []


@pytest.mark.real
def test_a_layer_below_an_overlay_counts_as_used(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    layer = store.commit(_built(store, "x"), DIGEST, {})
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    merged = tmp_path / "merged"
    assert store.layers_in_use() == set()
    options = f"lowerdir={layer.root},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    syscalls.mount("overlay", merged, "overlay", 0, options)
    try:
        assert store.layers_in_use() == {DIGEST}
    finally:
        mounts.unmount(merged)
    assert store.layers_in_use() == set()
