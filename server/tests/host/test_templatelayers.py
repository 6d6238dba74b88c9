"""Pins: a layer that a save lies on stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.foundation.errors import Internal
from atolld.foundation.ids import new_build_id
from atolld.host.instance import Instance
from atolld.host.templatelayers import TemplateLayers, is_pinned


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for digest in ("aa", "bb"):
        (tmp_path / "layers" / digest / "root").mkdir(parents=True)
    return tmp_path / "layers"


def test_a_root_and_its_digest_belong_together(cache: Path, instance: Instance) -> None:
    layers = TemplateLayers(cache, instance)
    assert layers.root("aa") == cache / "aa" / "root"
    assert layers.digest(layers.root("aa")) == "aa"


@pytest.mark.parametrize("root", ["aa", "aa/other", "x/aa/root", "../aa/root"])
def test_other_paths_are_no_layers(cache: Path, instance: Instance, root: str) -> None:
    with pytest.raises(Internal):
        TemplateLayers(cache, instance).digest(cache / root)


@pytest.mark.parametrize("digest", ["", "..", ".building-x", "a/b"])
def test_other_names_are_no_digests(cache: Path, instance: Instance, digest: str) -> None:
    with pytest.raises(Internal):
        TemplateLayers(cache, instance).root(digest)


def test_pins_hold_a_layer_until_the_last_is_gone(cache: Path, instance: Instance) -> None:
    layers, other = TemplateLayers(cache, instance), TemplateLayers(cache, Instance.named("other"))
    for _ in range(2):
        layers.pin("s1", ["aa", "bb"])
    layers.pin("s2", ["aa"])
    other.pin("s1", ["bb"])
    layers.unpin_all_but({"s2"})
    assert is_pinned(cache / "aa")
    assert is_pinned(cache / "bb")
    for _ in range(2):
        layers.unpin("s2")
    assert not is_pinned(cache / "aa")
    other.unpin("s1")
    assert not is_pinned(cache / "bb")
    assert not is_pinned(cache / "cc")


def test_what_builds_keep_is_none_of_the_saves_business(cache: Path, instance: Instance) -> None:
    layers, build = TemplateLayers(cache, instance), new_build_id()
    layers.pin(build, ["aa"])
    layers.pin("s1", ["aa"])
    layers.unpin_all_but(())
    assert os.listdir(cache / "aa" / "pins") == [f"{instance.name}.{build}"]
    layers.unpin(build)
    assert not is_pinned(cache / "aa")


def test_a_layer_that_is_gone_cannot_be_pinned(cache: Path, instance: Instance) -> None:
    with pytest.raises(FileNotFoundError):
        TemplateLayers(cache, instance).pin("s1", ["cc"])
