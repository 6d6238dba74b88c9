"""Files: read, written, moved, watched, copied."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import AsyncSandbox, Config, ConnectionFailed, InvalidArgument, NoSpace, NotFound, WatchEvent


@pytest.fixture
async def sandbox(daemon: FakeDaemon, config: Config) -> AsyncSandbox:
    return await AsyncSandbox.create(config=config)


def change(kind: str, name: str, **more: object) -> dict[str, object]:
    return {"filesystem": {"type": f"EVENT_TYPE_{kind}", "name": name, **more}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("é", "é".encode()),
        (b"\xff\x00", b"\xff\x00"),
        (io.BytesIO(b"file" * 1_000_000), b"file" * 1_000_000),
        ([b"a", b"", b"b"], b"ab"),
        (b"", b""),
    ],
)
async def test_what_is_written_can_be_read(
    content: str, expected: bytes, daemon: FakeDaemon, sandbox: AsyncSandbox
) -> None:
    info = await sandbox.files.write("/home/user/a b?#é", content, user="root")
    assert daemon.files == {"/home/user/a b?#é": expected}
    assert (info.path, info.size) == ("/home/user/a b?#é", len(expected))
    assert daemon.requests_to("/files")[0].params["username"] == "root"
    assert await sandbox.files.read("/home/user/a b?#é", format="bytes") == expected
    stream = await sandbox.files.read("/home/user/a b?#é", format="stream")
    assert b"".join([piece async for piece in stream]) == expected


async def test_known_sizes_are_announced(daemon: FakeDaemon, sandbox: AsyncSandbox, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    with file.open("rb") as opened:
        opened.read(2)
        await sandbox.files.write("/a", opened)
    assert daemon.requests_to("/files")[0].headers["content-length"] == "3"
    await sandbox.files.write("/b", iter([b"1", b"2"]))
    assert daemon.requests_to("/files")[1].headers["transfer-encoding"] == "chunked"
    assert daemon.files == {"/a": b"345", "/b": b"12"}


async def test_text_is_strict(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.files["/a"] = b"\xff"
    with pytest.raises(UnicodeDecodeError):
        await sandbox.files.read("/a")


async def test_a_text_file_object_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(InvalidArgument, match="binary"):
        await sandbox.files.write("/a", io.StringIO("x"))  # type: ignore[arg-type]


async def test_many(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    written = await sandbox.files.write_many({f"/d/{number}": str(number) for number in range(20)})
    assert [info.path for info in written] == [f"/d/{number}" for number in range(20)]
    assert daemon.files == {f"/d/{number}": str(number).encode() for number in range(20)}
    assert [info.name for info in await sandbox.files.write_many([("/e", b"1")])] == ["e"]
    assert await sandbox.files.write_many([]) == []


async def test_missing_files(sandbox: AsyncSandbox) -> None:
    with pytest.raises(NotFound, match="/nope"):
        await sandbox.files.read("/nope")
    with pytest.raises(NotFound):
        await sandbox.files.stat("/nope")
    assert await sandbox.files.exists("/nope") is False
    await sandbox.files.remove("/nope")


async def test_a_full_disk(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/agent/files"] = [(507, {}, b'{"code":507,"message":"disk full"}')]
    with pytest.raises(NoSpace, match="disk full"):
        await sandbox.files.write("/a", b"x")


async def test_directories(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    assert await sandbox.files.make_dir("/d") is True
    assert await sandbox.files.make_dir("/d") is False
    assert (await sandbox.files.stat("/d")).type == "dir"
    daemon.files.update({"/d/b": b"", "/d/a": b"12"})
    listed = await sandbox.files.list("/d", depth=3)
    assert [(info.name, info.type, info.size) for info in listed] == [("a", "file", 2), ("b", "file", 0)]
    assert daemon.seen[-1].json() == {"path": "/d", "depth": 3}
    assert (await sandbox.files.move("/d/a", "/c")).path == "/c"
    await sandbox.files.remove("/d/b")
    assert set(daemon.files) == {"/c"}


async def test_upload_and_download(daemon: FakeDaemon, sandbox: AsyncSandbox, tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 5)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    target.write_bytes(b"old")
    sent: list[tuple[int, int | None]] = []
    assert await sandbox.files.upload(source, "/big", on_progress=lambda *now: sent.append(now)) == len(content)
    assert daemon.files["/big"] == content
    assert sent[-1] == (len(content), len(content))
    got: list[tuple[int, int | None]] = []
    assert await sandbox.files.download("/big", target, on_progress=lambda *now: got.append(now)) == len(content)
    assert target.read_bytes() == content
    assert got[-1] == (len(content), len(content))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


async def test_a_download_appears_whole_or_not_at_all(
    daemon: FakeDaemon, sandbox: AsyncSandbox, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        await sandbox.files.download("/nope", tmp_path / "target")
    short = (200, {"content-length": "100", "connection": "close"}, b"short")
    daemon.answers[f"GET /v1/sandboxes/{sandbox.id}/agent/files"] = [short]
    with pytest.raises(ConnectionFailed):
        await sandbox.files.download("/a", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


async def test_watch(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    entry = {"name": "a", "path": "/d/a", "type": "FILE_TYPE_FILE"}
    daemon.watch_frames = [
        [
            {"keepalive": {}},
            change("CREATE", "a"),
            change("WRITE", "a", entry=entry),
        ]
    ]
    async with await sandbox.files.watch("/d", recursive=True, include_entry=True) as watch:
        events = [event async for event in watch]
    assert [(event.type, event.name) for event in events] == [("create", "a"), ("write", "a")]
    assert events[1].entry is not None and events[1].entry.path == "/d/a"
    assert daemon.requests_to("/WatchDir")[0].body.endswith(b'{"path":"/d","recursive":true,"includeEntry":true}')


async def test_a_broken_watch_says_that_changes_may_be_missing(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.watch_frames = [[change("CREATE", "a"), {"drop": True}], [change("REMOVE", "a")]]
    watch = await sandbox.files.watch("/d")
    assert [event async for event in watch] == [
        WatchEvent("create", "a"),
        WatchEvent("gap", ""),
        WatchEvent("remove", "a"),
    ]


async def test_a_closed_watch_ends(daemon: FakeDaemon, sandbox: AsyncSandbox) -> None:
    daemon.watch_frames = [[change("CREATE", "a")] * 3]
    watch = await sandbox.files.watch("/d")
    assert (await watch.__anext__()).type == "create"
    await watch.close()
    await watch.close()
    with pytest.raises(StopAsyncIteration):
        await watch.__anext__()
