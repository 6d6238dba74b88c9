from __future__ import annotations

import os
from pathlib import Path

import pytest

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import Capacity, Internal
from atolld.foundation.ids import ProjectId
from atolld.images.cachemounts import CacheMounts
from atolld.images.projectdirs import FRESH_S, KEPT_S

P, Q = ProjectId("p"), ProjectId("q")


class Stage:
    def __init__(self, cache: Path, **bounds: int) -> None:
        self.clock = ManualClock()
        self.mounts = CacheMounts(cache, self.clock, **({"reserve_bytes": 0} | bounds))
        self.directory = cache / "builds" / "mounts"

    def keep(self, id: str, data: bytes, project_id: ProjectId = P) -> None:
        new = self.mounts.write(project_id, id)
        new.write(data)
        new.commit()
        new.abandon()

    def read(self, id: str, project_id: ProjectId = P) -> bytes | None:
        file = self.mounts.read(project_id, id)
        if file is None:
            return None
        with file:
            return file.read()

    def names(self) -> list[str]:
        return [path.name for path in self.directory.glob("*/*")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_is_kept_comes_back_to_its_project(stage: Stage) -> None:
    assert stage.read("a") is None
    stage.keep("a", b"one")
    stage.keep("../a\0\ud800", b"odd")
    stage.keep("a", b"theirs", Q)
    assert (stage.read("a"), stage.read("a", Q), stage.read("../a\0\ud800")) == (b"one", b"theirs", b"odd")
    reading = stage.mounts.read(P, "a")
    stage.keep("a", b"two")
    assert reading is not None
    with reading:
        assert reading.read() == b"one"
    assert stage.read("a") == b"two"
    assert all(len(name) == 64 for name in stage.names())


def test_what_is_abandoned_leaves_what_was_there(stage: Stage) -> None:
    stage.keep("a", b"one")
    new = stage.mounts.write(P, "a")
    new.write(b"half")
    new.abandon()
    assert stage.read("a") == b"one"
    assert len(stage.names()) == 1


@pytest.mark.parametrize(
    ("sizes", "used", "left"),
    [
        ({"a": 4, "b": 4, "c": 2}, "", "abc"),
        ({"a": 4, "b": 4, "c": 3}, "", "bc"),
        ({"a": 4, "b": 4, "c": 3}, "a", "ac"),
        ({"a": 4, "b": 4, "c": 10}, "", "c"),
        ({"a": 4, "b": 4, "c": 4, "a ": 0}, "", "bca "),
    ],
)
async def test_the_longest_unused_make_room(tmp_path: Path, sizes: dict[str, int], used: str, left: str) -> None:
    stage = Stage(tmp_path, max_project_bytes=10)
    stage.keep("big", b"x" * 10, Q)
    for id, size in sizes.items():
        if id == "c" and used:
            await stage.clock.advance(1)
            assert stage.read(used) is not None
        await stage.clock.advance(1)
        stage.keep(id, b"x" * size)
    assert "".join(id for id in (*"abc", "a ") if stage.read(id) is not None) == left
    assert stage.read("big", Q) is not None


def test_what_is_too_large_is_refused_and_nothing_goes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, max_project_bytes=10)
    stage.keep("a", b"old")
    new = stage.mounts.write(P, "a")
    new.write(b"x" * 11)
    with pytest.raises(Capacity, match="11 bytes"):
        new.commit()
    new.abandon()
    assert stage.read("a") == b"old"
    assert len(stage.names()) == 1


def test_a_full_disk_is_no_place_for_caches(tmp_path: Path) -> None:
    stage = Stage(tmp_path, reserve_bytes=1 << 62)
    with pytest.raises(Capacity):
        stage.mounts.write(P, "a")
    assert stage.names() == []


async def test_sweeping(stage: Stage) -> None:
    stage.keep("a", b"one")
    stage.keep("b", b"two")
    stage.keep("c", b"three", Q)
    half = stage.mounts.write(P, "half")
    os.utime(next(path for path in stage.directory.glob("p/.new-*")), (stage.clock.now(),) * 2)
    await stage.clock.advance(FRESH_S + 1)
    assert stage.read("b") == b"two"
    assert stage.mounts.sweep() == 0
    assert stage.mounts.sweep(FRESH_S) == 2
    assert (stage.read("a"), stage.read("b")) == (None, b"two")
    # What is being written stays, and goes when nobody can be at it any more.
    assert len(stage.names()) == 2
    await stage.clock.advance(KEPT_S + 1)
    assert stage.mounts.sweep() == 1
    assert list(stage.directory.iterdir()) == []
    half.abandon()


@pytest.mark.parametrize("project", ["", "../x", "a/b", "a" * 65])
def test_projects_that_cannot_be(stage: Stage, project: str) -> None:
    with pytest.raises(Internal, match="not the id of a project"):
        stage.mounts.read(ProjectId(project), "a")
