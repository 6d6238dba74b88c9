"""Uploads that nobody vouches for: stored whole or not at all, bounded, and gone when nobody needs them."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from server.tests.images.buildstage import PROJECT, pieces, tar_of, tree

from atolld.foundation.clock import ManualClock
from atolld.foundation.errors import AtollError, Capacity, Internal, InvalidArgument, LimitExceeded, NotFound
from atolld.foundation.ids import ProjectId
from atolld.foundation.units import MIB
from atolld.host import mounts, syscalls
from atolld.images import contextstore
from atolld.images.contextstore import ContextStore
from atolld.images.projectdirs import FRESH_S, KEPT_S

pytestmark = pytest.mark.real

OTHER = ProjectId("project2")


class Uploads:
    def __init__(self, cache: Path, **options: int) -> None:
        self.cache = cache
        self.clock = ManualClock()
        self.store = ContextStore(cache, self.clock, **{"reserve_bytes": 0, **options})

    async def put(self, files: dict[str, str | None], name: str = "ctx", project: ProjectId = PROJECT) -> int:
        return await self.store.put(project, name, pieces(tar_of(files)))

    def read(self, name: str = "ctx", project: ProjectId = PROJECT) -> dict[str, str | None]:
        with self.store.reading(project, name) as home:
            return tree(home / "root")

    def left(self) -> list[str]:
        files = self.cache / "builds/files"
        return sorted(str(path.relative_to(files)) for path in files.glob("*/*"))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_what_was_uploaded_is_read(uploads: Uploads, mode: str) -> None:
    data = tar_of({"a": "1", "d/b": "2", "d/.wh.c": "x", "l": "-> a"}, mode)
    assert not uploads.store.has(PROJECT, "ctx")
    assert await uploads.store.put(PROJECT, "ctx", pieces(data)) == len(data)
    assert uploads.store.has(PROJECT, "ctx") and not uploads.store.has(OTHER, "ctx")
    assert uploads.read() == {"a": "1", "d/b": "2", "d/.wh.c": "x", "l": "-> a"}
    with pytest.raises(NotFound):
        uploads.read(project=OTHER)
    assert uploads.left() == ["project1/ctx"]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".new-x", "x" * 129, "ä", "a.b"])
async def test_names(uploads: Uploads, name: str) -> None:
    for call in (lambda: uploads.store.has(PROJECT, name), lambda: uploads.read(name)):
        with pytest.raises(InvalidArgument, match="no name for uploaded files"):
            call()
    with pytest.raises(InvalidArgument):
        await uploads.put({}, name)
    with pytest.raises(Internal):
        uploads.store.has(ProjectId("../x"), "ctx")
    assert uploads.left() == []


def hostile(kind: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if kind == "device":
            info = tarfile.TarInfo("null")
            info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
            tar.addfile(info)
        elif kind == "hard link out":
            info = tarfile.TarInfo("x")
            info.type, info.linkname = tarfile.LNKTYPE, "../../etc/passwd"
            tar.addfile(info)
        elif kind == "deep":
            tar.addfile(tarfile.TarInfo("d/" * 200 + "x"))
        elif kind == "trusted":
            info = tarfile.TarInfo("x")
            info.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
            tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tar_of({"/etc/passwd": "x"}), "absolute path"),
        (tar_of({"a/../../x": "x"}), "leads out"),
        (tar_of({"l": "-> /etc", "l/x": "x"}), "through the link"),
        (tar_of({"d": "x", "d/y": "x"}), "a file and a directory"),
        (hostile("device"), "device node"),
        (hostile("hard link out"), "leads out"),
        (hostile("deep"), "too deep"),
        (hostile("trusted"), "trusted.overlay.opaque"),
        (tar_of({"a": "x" * 100_000})[:-20], "cut off|damaged"),
        (b"no tar at all" * 100, "refused"),
        (b"\x1f\x8b" + b"x" * 1000, "damaged"),
        (tar_of({"zeros": "\0" * (600 * MIB)}), "too much for its size"),
    ],
)
async def test_hostile_uploads_leave_nothing(uploads: Uploads, data: bytes, says: str) -> None:
    await uploads.put({"old": "1"})
    with pytest.raises(InvalidArgument, match=f"^the uploaded files are refused: .*({says})|{says}"):
        await uploads.store.put(PROJECT, "ctx", pieces(data, 100_000))
    assert uploads.read() == {"old": "1"}
    assert uploads.left() == ["project1/ctx"]


async def test_too_many_files(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.images.unpack.MAX_DIRECTORIES", 20)
    with pytest.raises(InvalidArgument, match="more than 20 directories"):
        await uploads.put({f"d{number}": None for number in range(30)})
    assert uploads.left() == []


async def test_too_large_an_upload(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_upload_bytes=100_000)
    endless = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal endless
        while True:
            endless += 1
            yield b"x" * 10_000

    with pytest.raises(InvalidArgument, match="more than 98 KiB"):
        await uploads.store.put(PROJECT, "ctx", stream())
    assert endless == 11
    assert uploads.left() == []


async def test_a_project_has_its_bound(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_project_bytes=2 * MIB)
    noise = os.urandom(MIB // 2 + 5000).hex()
    await uploads.put({"a": noise}, "one")
    with pytest.raises(LimitExceeded, match=r"would take 2 MiB; at most 2 MiB are kept.*\.dockerignore"):
        await uploads.put({"a": noise}, "two")
    # The same name makes room for itself, another project has its own, and what nobody used lately goes.
    await uploads.put({"a": noise + "x"}, "one")
    await uploads.put({"a": noise}, "one", OTHER)
    await uploads.clock.advance(FRESH_S + 1)
    await uploads.put({"a": noise}, "two")
    assert uploads.left() == ["project1/two", "project2/one"]
    with pytest.raises(InvalidArgument, match="too much for its size|more than 2 MiB"):
        await uploads.put({"a": noise * 3}, "three")


async def test_what_nobody_used_for_a_week_goes(uploads: Uploads) -> None:
    await uploads.put({"a": "1"}, "kept")
    await uploads.put({"a": "1"}, "gone")
    await uploads.put({"a": "1"}, "gone", OTHER)
    await uploads.clock.advance(KEPT_S - 10)
    assert uploads.store.sweep() == 0
    assert uploads.store.has(PROJECT, "kept")
    await uploads.clock.advance(20)
    assert uploads.store.sweep() == 2
    assert uploads.left() == ["project1/kept"]
    assert os.listdir(uploads.cache / "builds/files") == ["project1"]
    assert uploads.store.sweep(older_s=FRESH_S) == 0
    await uploads.clock.advance(FRESH_S + 1)
    assert uploads.store.sweep(older_s=FRESH_S) == 1


async def test_who_reads_goes_on_when_it_is_replaced_or_swept(uploads: Uploads) -> None:
    await uploads.put({"a": "old"})
    with uploads.store.reading(PROJECT, "ctx") as home:
        await uploads.clock.advance(2 * KEPT_S)
        assert uploads.store.sweep() == 0
        await uploads.put({"a": "new"})
        assert uploads.read() == {"a": "new"}
        # The directory has another name now; a descriptor of it leads there.
        moved = list((uploads.cache / "builds/files" / PROJECT).glob(".new-*"))
        assert [tree(path / "root") for path in moved] == [{"a": "old"}] == [tree(home / "root")]
        assert uploads.store.sweep() == 0
    uploads.store.sweep()
    assert uploads.left() == ["project1/ctx"]
    assert uploads.read() == {"a": "new"}


async def test_many_uploads_of_one_name_at_once(uploads: Uploads) -> None:
    await uploads.put({"a": "first", "b": "first"})
    ended = asyncio.Event()

    async def read() -> int:
        times = 0
        while not ended.is_set():
            # A build that asks while the names change finds one of them, never nothing.
            found = await asyncio.to_thread(uploads.read)
            assert set(found) == {"a", "b"} and found["a"] == found["b"]
            assert uploads.store.has(PROJECT, "ctx")
            times += 1
        return times

    async def put() -> None:
        try:
            await asyncio.gather(*(uploads.put({"a": str(number), "b": str(number)}) for number in range(40)))
        finally:
            ended.set()

    _, *times = await asyncio.gather(put(), read(), read())
    assert all(times)
    uploads.store.sweep()
    assert uploads.left() == ["project1/ctx"]


async def test_what_takes_the_name_while_the_old_one_is_swept_stays(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await uploads.put({"a": "old", "d/b": "old"})
    await uploads.clock.advance(2 * KEPT_S)
    real = contextstore._remove_entry
    swapped: list[str] = []

    def replaced_meanwhile(name: str, directory: int) -> None:
        if not swapped:
            swapped.append(name)
            newer = ContextStore(uploads.cache, uploads.clock, reserve_bytes=0)
            asyncio.run(newer.put(PROJECT, "ctx", pieces(tar_of({"a": "new"}))))
        real(name, directory)

    monkeypatch.setattr(contextstore, "_remove_entry", replaced_meanwhile)
    assert await asyncio.to_thread(uploads.store.sweep) == 1
    assert swapped and uploads.read() == {"a": "new"}
    uploads.store.sweep()
    assert uploads.left() == ["project1/ctx"]


async def test_a_caller_that_goes_away_leaves_nothing(uploads: Uploads) -> None:
    begun = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(uploads.store.put(PROJECT, "ctx", stream()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert uploads.left() == []


@pytest.mark.parametrize(("size", "reserve"), [("size=1m", 0), ("size=64m", 1 << 40)])
async def test_a_full_disk(tmp_path: Path, size: str, reserve: int) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    syscalls.mount("tmpfs", cache, "tmpfs", 0, size)
    try:
        uploads = Uploads(cache, reserve_bytes=reserve)
        with pytest.raises(Capacity) as caught:
            await uploads.put({"a": os.urandom(MIB).hex()})
        assert isinstance(caught.value, AtollError)
        assert uploads.left() == []
    finally:
        mounts.unmount(cache)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from atolld.foundation.clock import ManualClock
from atolld.images import contextstore
from server.tests.images.buildstage import PROJECT, pieces, tar_of

store = contextstore.ContextStore(Path({cache!r}), ManualClock(), reserve_bytes=0)
whole = {name!r}
real = getattr(contextstore, whole)
def die(*args, **kwargs):
    os.kill(os.getpid(), 9)
setattr(contextstore, whole, die)
asyncio.run(store.put(PROJECT, "ctx", pieces(tar_of({{"a": "new"}}))))
"""


@pytest.mark.parametrize("where", ["open_layer", "unpack", "disk_usage", "_write_out", "_swap", "_remove_entry"])
async def test_a_killed_upload_is_swept(uploads: Uploads, where: str) -> None:
    await uploads.put({"a": "old"})
    code = KILLED.format(cache=str(uploads.cache), name=where)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=subprocess.PIPE)
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    # `_remove_entry` is what follows the swap.
    assert uploads.read() == {"a": "new" if where == "_remove_entry" else "old"}
    uploads.store.sweep()
    assert uploads.left() == ["project1/ctx"]
    await uploads.put({"a": "again"})
    assert uploads.read() == {"a": "again"}
