"""What is seen and changed in a root file system before the guest runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.runtime.drivers.gvisor.image import has_sudo, keep_tmp_on_disk, layers_have_sudo, make_agent_place


def test_an_empty_tmp_gets_an_entry(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    keep_tmp_on_disk(tmp_path)
    keep_tmp_on_disk(tmp_path)
    assert os.listdir(tmp_path / "tmp") == [".X11-unix"]


def test_a_used_tmp_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/mine").touch()
    keep_tmp_on_disk(tmp_path)
    assert os.listdir(tmp_path / "tmp") == ["mine"]


def test_no_link_out_of_the_template_is_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "tmp").symlink_to(outside)
    keep_tmp_on_disk(root)
    assert os.listdir(outside) == []


def test_sudo_is_replaced_only_where_it_is_a_plain_file(tmp_path: Path) -> None:
    real, linked, merged = tmp_path / "real", tmp_path / "linked", tmp_path / "merged"
    for root in (real, linked):
        (root / "usr/bin").mkdir(parents=True)
    assert not has_sudo(real)
    (real / "usr/bin/sudo").touch()
    assert has_sudo(real)
    (linked / "usr/bin/sudo").symlink_to(real / "usr/bin/sudo")
    assert not has_sudo(linked)
    merged.mkdir()
    (merged / "usr").symlink_to(real / "usr")
    assert not has_sudo(merged)


def test_sudo_of_the_highest_layer_that_has_one(tmp_path: Path) -> None:
    none, real, linked = (tmp_path / name for name in ("none", "real", "linked"))
    for root in (none, real, linked):
        (root / "usr/bin").mkdir(parents=True)
    (real / "usr/bin/sudo").touch()
    (linked / "usr/bin/sudo").symlink_to("/bin/true")
    for layers, has in (
        ((none,), False),
        ((real,), True),
        ((real, none), True),
        ((none, real), True),
        ((linked, real, none), True),
        ((real, linked), False),
        ((), False),
    ):
        assert layers_have_sudo(layers) is has, layers


def test_a_place_for_the_agent(tmp_path: Path) -> None:
    make_agent_place(tmp_path)
    make_agent_place(tmp_path)
    assert (tmp_path / ".atoll/agent").read_bytes() == b""


@pytest.mark.parametrize("link", [".atoll", ".atoll/agent"])
def test_no_place_for_the_agent_by_a_link(link: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    if link == ".atoll":
        outside.mkdir()
    with pytest.raises(OSError, match=r"."):
        make_agent_place(root)
    assert not outside.exists() or os.listdir(outside) == []


@pytest.mark.parametrize("place", [".atoll/agent", ".atoll"])
def test_no_place_for_the_agent_where_something_else_is(place: str, tmp_path: Path) -> None:
    if place == ".atoll":
        (tmp_path / place).touch()
    else:
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(OSError, match=r"."):
        make_agent_place(tmp_path)
