"""What differs between two disks: every way in which overlayfs tells that something changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.core.snapshot import FileDiff
from atolld.foundation.errors import FailedPrecondition
from atolld.host import loopdev, mounts, savediff
from atolld.host.instance import Instance
from atolld.host.layers import Layers, frozen
from atolld.host.privatemounts import in_private_mounts
from atolld.host.rootfs import RootFilesystems
from atolld.host.savediff import Side, diff
from atolld.host.saveviews import make_places, mount_side
from atolld.host.sparse import clone_file


def flat(root: Path) -> Side:
    """A sandbox without a template: what it wrote is all there is."""
    root.mkdir(exist_ok=True)
    return Side(root, root)


def told(found: list[FileDiff]) -> list[str]:
    return [f"{one.change.value} {one.path} {one.size_bytes}" for one in found]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": "x"}, {"a": "x"}, []),
        ({"a": "x"}, {"a": "yy"}, ["changed /a 2"]),
        ({"a": "x"}, {}, ["removed /a 0"]),
        ({}, {"a": "x"}, ["added /a 1"]),
        ({"d/a": "x", "d/b": "x"}, {}, ["removed /d 0"]),
        ({}, {"d/a": "x", "d/e/b": ""}, ["added /d 0", "added /d/a 1", "added /d/e 0", "added /d/e/b 0"]),
        ({"a": "x"}, {"a/b": "x"}, ["changed /a 0", "added /a/b 1"]),
        ({"a/b": "x"}, {"a": "x"}, ["changed /a 1"]),
        ({"a-b": "1", "a/c": "1"}, {"a-b": "2", "a/c": "2"}, ["changed /a/c 1", "changed /a-b 1"]),
        ({".atoll/agent": "1"}, {"x/.atoll/a": ""}, ["added /x 0", "added /x/.atoll 0", "added /x/.atoll/a 0"]),
    ],
)
def test_trees_are_compared(tmp_path: Path, old: dict[str, str], new: dict[str, str], expected: list[str]) -> None:
    sides = []
    for name, files in (("old", old), ("new", new)):
        sides.append(flat(tmp_path / name))
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
    assert told(diff(sides[0], sides[1], 100)) == expected
    assert told(diff(sides[0], sides[1], 1)) == expected[:1]
    assert diff(sides[0], sides[1], 0) == []


def test_modes_and_links_count_and_times_do_not(tmp_path: Path) -> None:
    old, new = flat(tmp_path / "old"), flat(tmp_path / "new")
    for side in (tmp_path / "old", tmp_path / "new"):
        for name in ("same", "mode"):
            (side / name).write_text("x")
        (side / "link").symlink_to(side.name)
        (side / "fixed").symlink_to("x")
        (side / "dir").mkdir()
        os.mkfifo(side / "fifo")
    os.utime(tmp_path / "new" / "same", (1, 1))
    (tmp_path / "new" / "mode").chmod(0o600)
    (tmp_path / "new" / "dir").chmod(0o700)
    assert told(diff(old, new, 100)) == ["changed /dir 0", "changed /link 0", "changed /mode 1"]


def test_no_link_is_followed_and_hostile_names_are_text(tmp_path: Path) -> None:
    old, new = flat(tmp_path / "old"), flat(tmp_path / "new")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("x")
    (tmp_path / "old" / "d").symlink_to(tmp_path / "secret")
    (tmp_path / "new" / "d").mkdir()
    (tmp_path / "new" / "d" / "file").write_text("x")
    (tmp_path / "new" / "up").symlink_to("../secret")
    os.close(os.open(os.fsencode(tmp_path / "new") + b"/bad\xff\n", os.O_CREAT | os.O_WRONLY))
    assert told(diff(old, new, 100)) == ["added /bad\ufffd\n 0", "changed /d 0", "added /d/file 1", "added /up 0"]


def test_too_many_files_and_too_deep_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = flat(tmp_path / "old"), flat(tmp_path / "new")
    for number in range(20):
        (tmp_path / "new" / str(number)).touch()
    with monkeypatch.context() as patch:
        patch.setattr(savediff, "MAX_VISITED", 10)
        with pytest.raises(FailedPrecondition, match="more than 10 files"):
            diff(old, new, 100)
    at = os.open(tmp_path / "new", os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(FailedPrecondition, match="too deep"):
        diff(old, new, 100)


Change = Callable[[Path], object]


def rename_directory(root: Path) -> None:
    (root / "usr").rename(root / "moved")


def replace_directory(root: Path) -> None:
    shutil.rmtree(root / "usr")
    (root / "usr").mkdir()
    (root / "usr" / "own").write_text("o")


CHANGES: list[tuple[Change, list[str]]] = [
    (lambda root: (root / "file").unlink(), ["removed /file 0"]),
    (lambda root: (root / "file").write_text("changed"), ["changed /file 7"]),
    (lambda root: (root / "file").write_text("f"), []),
    (lambda root: os.utime(root / "file", (5, 5)), []),
    (lambda root: (root / "file").chmod(0o700), ["changed /file 1"]),
    (lambda root: (root / "usr/lib/new").write_text("new"), ["added /usr/lib/new 3"]),
    (lambda root: shutil.rmtree(root / "usr"), ["removed /usr 0"]),
    (
        rename_directory,
        ["added /moved 0", "added /moved/bin 1", "added /moved/lib 0", "added /moved/lib/x 1", "removed /usr 0"],
    ),
    (replace_directory, ["removed /usr/bin 0", "removed /usr/lib 0", "added /usr/own 1"]),
]


@pytest.mark.real
@pytest.mark.parametrize("layer_count", [1, 2])
@pytest.mark.parametrize(("change", "expected"), CHANGES)
async def test_what_an_overlay_changed_is_told_and_nothing_is_left(
    instance: Instance, clean: None, tmp_path: Path, layer_count: int, change: Change, expected: list[str]
) -> None:
    roots_below = [tmp_path / f"lower{number}" for number in range(layer_count)]
    for root in roots_below:
        (root / "usr" / "lib").mkdir(parents=True)
        for name in ("file", "usr/bin", "usr/lib/x"):
            (root / name).write_text(name[0])
    layers, roots, places = Layers(instance), RootFilesystems(instance), tmp_path / "views"
    layers.prepare()
    roots.prepare()
    make_places(places)
    layer = await layers.create("a", 64)
    root = await roots.mount("a", roots_below[::-1], layer)
    (root / "before").write_text("b")
    saved = []
    for name in ("older", "newer"):
        if name == "newer":
            change(root)
        async with frozen(layer):
            clone_file(layer.image, tmp_path / name)
        saved.append((tmp_path / name).read_bytes())

    def compare(older: Path | None) -> list[FileDiff]:
        sides = [mount_side(places / name, image, roots_below) for name, image in (("older", older), ("newer", newer))]
        assert os.path.ismount(places / "newer" / "disk")
        return diff(sides[0], sides[1], 100)

    newer = tmp_path / "newer"
    assert told(await in_private_mounts(lambda: compare(tmp_path / "older"), name="test")) == expected
    since_template = told(await in_private_mounts(lambda: compare(None), name="test"))
    assert since_template == sorted([*expected, "added /before 1"], key=lambda line: line.split()[1].split("/"))
    assert [(tmp_path / name).read_bytes() for name in ("older", "newer")] == saved
    assert not [one for one in mounts.read_mounts() if one.target.is_relative_to(places)]
    assert not [image for image in loopdev.list_attached(tmp_path) if not image.is_relative_to(layers.directory)]
    assert "test" not in [thread.name for thread in threading.enumerate()]
    await roots.unmount("a")
    await layers.destroy(layer)
    layers.remove_all()
    roots.remove_all()


@pytest.mark.real
async def test_private_mounts_hold_up_nobody_and_tell_of_faults(
    instance: Instance, clean: None, tmp_path: Path
) -> None:
    layers = Layers(instance)
    layers.prepare()
    layer = await layers.create("a", 64)
    inside, outside = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        outside.wait(5)
        raise ValueError("inside")

    task = asyncio.get_running_loop().create_task(in_private_mounts(work, name="test"))
    await asyncio.to_thread(inside.wait)
    await layers.destroy(layer)
    assert loopdev.list_attached(layers.directory) == {}
    outside.set()
    with pytest.raises(ValueError, match="inside"):
        await task
    layers.remove_all()
