# Generated from `tests/_async/test_files.py` by `scripts/unasync.py`: change that, not this.
"""Files: read, written, moved, watched, copied."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import Sandbox, Config, ConnectionFailed, InvalidArgument, NoSpace, NotFound, WatchEvent


@pytest.fixture
def sandbox(daemon: FakeDaemon, config: Config) -> Sandbox:
    return Sandbox.create(config=config)


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
def test_what_is_written_can_be_read(
    content: str, expected: bytes, daemon: FakeDaemon, sandbox: Sandbox
) -> None:
    info = sandbox.files.write("/home/user/a b?#é", content, user="root")
    assert daemon.files == {"/home/user/a b?#é": expected}
    assert (info.path, info.size) == ("/home/user/a b?#é", len(expected))
    assert daemon.requests_to("/files")[0].params["username"] == "root"
    assert sandbox.files.read("/home/user/a b?#é", format="bytes") == expected
    stream = sandbox.files.read("/home/user/a b?#é", format="stream")
    assert b"".join([piece for piece in stream]) == expected


def test_known_sizes_are_announced(daemon: FakeDaemon, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    with file.open("rb") as opened:
        opened.read(2)
        sandbox.files.write("/a", opened)
    assert daemon.requests_to("/files")[0].headers["content-length"] == "3"
    sandbox.files.write("/b", iter([b"1", b"2"]))
    assert daemon.requests_to("/files")[1].headers["transfer-encoding"] == "chunked"
    assert daemon.files == {"/a": b"345", "/b": b"12"}


def test_text_is_strict(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.files["/a"] = b"\xff"
    with pytest.raises(UnicodeDecodeError):
        sandbox.files.read("/a")


def test_a_text_file_object_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidArgument, match="binary"):
        sandbox.files.write("/a", io.StringIO("x"))  # type: ignore[arg-type]


def test_many(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    written = sandbox.files.write_many({f"/d/{number}": str(number) for number in range(20)})
    assert [info.path for info in written] == [f"/d/{number}" for number in range(20)]
    assert daemon.files == {f"/d/{number}": str(number).encode() for number in range(20)}
    assert [info.name for info in sandbox.files.write_many([("/e", b"1")])] == ["e"]
    assert sandbox.files.write_many([]) == []


def test_missing_files(sandbox: Sandbox) -> None:
    with pytest.raises(NotFound, match="/nope"):
        sandbox.files.read("/nope")
    with pytest.raises(NotFound):
        sandbox.files.stat("/nope")
    assert sandbox.files.exists("/nope") is False
    sandbox.files.remove("/nope")


def test_a_full_disk(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.answers[f"POST /v1/sandboxes/{sandbox.id}/agent/files"] = [(507, {}, b'{"code":507,"message":"disk full"}')]
    with pytest.raises(NoSpace, match="disk full"):
        sandbox.files.write("/a", b"x")


def test_directories(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    assert sandbox.files.make_dir("/d") is True
    assert sandbox.files.make_dir("/d") is False
    assert (sandbox.files.stat("/d")).type == "dir"
    daemon.files.update({"/d/b": b"", "/d/a": b"12"})
    listed = sandbox.files.list("/d", depth=3)
    assert [(info.name, info.type, info.size) for info in listed] == [("a", "file", 2), ("b", "file", 0)]
    assert daemon.seen[-1].json() == {"path": "/d", "depth": 3}
    assert (sandbox.files.move("/d/a", "/c")).path == "/c"
    sandbox.files.remove("/d/b")
    assert set(daemon.files) == {"/c"}


def test_upload_and_download(daemon: FakeDaemon, sandbox: Sandbox, tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 5)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    target.write_bytes(b"old")
    sent: list[tuple[int, int | None]] = []
    assert sandbox.files.upload(source, "/big", on_progress=lambda *now: sent.append(now)) == len(content)
    assert daemon.files["/big"] == content
    assert sent[-1] == (len(content), len(content))
    got: list[tuple[int, int | None]] = []
    assert sandbox.files.download("/big", target, on_progress=lambda *now: got.append(now)) == len(content)
    assert target.read_bytes() == content
    assert got[-1] == (len(content), len(content))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_download_appears_whole_or_not_at_all(
    daemon: FakeDaemon, sandbox: Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        sandbox.files.download("/nope", tmp_path / "target")
    short = (200, {"content-length": "100", "connection": "close"}, b"short")
    daemon.answers[f"GET /v1/sandboxes/{sandbox.id}/agent/files"] = [short]
    with pytest.raises(ConnectionFailed):
        sandbox.files.download("/a", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_watch(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    entry = {"name": "a", "path": "/d/a", "type": "FILE_TYPE_FILE"}
    daemon.watch_frames = [
        [
            {"keepalive": {}},
            change("CREATE", "a"),
            change("WRITE", "a", entry=entry),
        ]
    ]
    with sandbox.files.watch("/d", recursive=True, include_entry=True) as watch:
        events = [event for event in watch]
    assert [(event.type, event.name) for event in events] == [("create", "a"), ("write", "a")]
    assert events[1].entry is not None and events[1].entry.path == "/d/a"
    assert daemon.requests_to("/WatchDir")[0].body.endswith(b'{"path":"/d","recursive":true,"includeEntry":true}')


def test_a_broken_watch_says_that_changes_may_be_missing(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.watch_frames = [[change("CREATE", "a"), {"drop": True}], [change("REMOVE", "a")]]
    watch = sandbox.files.watch("/d")
    assert [event for event in watch] == [
        WatchEvent("create", "a"),
        WatchEvent("gap", ""),
        WatchEvent("remove", "a"),
    ]


def test_a_closed_watch_ends(daemon: FakeDaemon, sandbox: Sandbox) -> None:
    daemon.watch_frames = [[change("CREATE", "a")] * 3]
    watch = sandbox.files.watch("/d")
    assert (watch.__next__()).type == "create"
    watch.close()
    watch.close()
    with pytest.raises(StopIteration):
        watch.__next__()
