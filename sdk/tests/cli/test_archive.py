"""Hostile tar streams, and whole directories through a process."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon, Script

from atoll import AlreadyExists, Internal
from atoll._config import Config
from atoll._sync.sandbox import Sandbox
from atoll.cli import archive


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpack(data: bytes, directory: Path) -> list[str]:
    skipped: list[str] = []
    archive.unpack(io.BytesIO(data), directory, skipped)
    return skipped


def test_what_is_kept(tmp_path: Path) -> None:
    data = tar_of(
        (member(".", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./d", tarfile.DIRTYPE, mode=0o555), b""),
        (member("./d/f", mode=0o4755), b"content"),
        (member("./d/up", tarfile.SYMTYPE, "../g"), b""),
        (member("./hard", tarfile.LNKTYPE, "d/f"), b""),
        (member("./g"), b"first"),
        (member("./g"), b"second"),
        (member("./dangling", tarfile.SYMTYPE, "nowhere"), b""),
    )
    assert unpack(data, tmp_path) == []
    assert (tmp_path / "d" / "f").read_bytes() == b"content"
    assert (tmp_path / "d" / "f").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(tmp_path / "d" / "up") == "../g"
    assert (tmp_path / "d" / "up").read_bytes() == b"second"
    assert (tmp_path / "hard").samefile(tmp_path / "d" / "f")


@pytest.mark.parametrize(
    "members",
    [
        [member("../escaped")],
        [member("/tmp/escaped-absolute")],
        [member("d/../../escaped")],
        [member("out", tarfile.SYMTYPE, "/etc/passwd")],
        [member("out", tarfile.SYMTYPE, "../../escaped")],
        [member("d/out", tarfile.SYMTYPE, "../../escaped")],
        [member("out", tarfile.LNKTYPE, "../escaped")],
        [member("out", tarfile.LNKTYPE, "/etc/passwd")],
        [member("fifo", tarfile.FIFOTYPE)],
        [member("device", tarfile.CHRTYPE)],
    ],
)
def test_what_leads_out_is_left_out_and_named(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    directory = tmp_path / "new"
    directory.mkdir()
    skipped = unpack(tar_of(*[(info, b"") for info in members]), directory)
    assert len(skipped) == 1
    assert list(tmp_path.rglob("*")) == [directory]


@pytest.mark.parametrize("target", ["..", "../outside", "{outside}"])
def test_nothing_is_written_through_a_link(target: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    directory = tmp_path / "new"
    directory.mkdir()
    data = tar_of(
        (member("link", tarfile.SYMTYPE, target.format(outside=outside)), b""),
        (member("link/file"), b"through"),
        (member("a", tarfile.SYMTYPE, "b"), b""),
        (member("a/c", tarfile.SYMTYPE, "x"), b""),
    )
    skipped = unpack(data, directory)
    assert skipped
    assert list(outside.iterdir()) == []
    assert (directory / "link" / "file").read_bytes() == b"through"
    assert not (directory / "link").is_symlink()


def test_a_chain_of_links_that_leads_out_cannot_be_walked(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    directory.mkdir()
    data = tar_of(
        (member("d/e", tarfile.DIRTYPE, mode=0o755), b""),
        (member("x", tarfile.SYMTYPE, "d/e"), b""),
        (member("x/y", tarfile.SYMTYPE, ".."), b""),
        (member("x/hard", tarfile.LNKTYPE, "x"), b""),
    )
    skipped = unpack(data, directory)
    assert len(skipped) == 2
    assert not (directory / "d" / "e" / "y").is_symlink()


def test_a_directory_comes_out_whole(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    sandbox = Sandbox.create(config=config)
    content = os.urandom(300_000)
    data = tar_of((member("./a"), content))
    pieces = [("stdout", data[start : start + 32768]) for start in range(0, len(data), 32768)]
    daemon.scripts["tar -cf - -C /src ."] = Script(output=pieces)
    skipped: list[str] = []
    archive.receive(sandbox, "/src", tmp_path / "got", None, lambda done, total: None, skipped)
    assert (tmp_path / "got" / "a").read_bytes() == content
    with pytest.raises(AlreadyExists):
        archive.receive(sandbox, "/src", tmp_path / "got", None, lambda done, total: None, skipped)


@pytest.mark.parametrize(
    "script",
    [
        Script(output=[("stdout", tar_of((member("a"), b"x" * 9000))), ("stderr", b"no access")], exit_code=2),
        Script(output=[("stdout", tar_of((member("a"), b"x" * 9000))[:5000])]),
        Script(output=[("stdout", b"no tar at all" * 100)]),
        Script(output=[("stdout", tar_of((member("a"), b"x" * 9000)))], cuts=[700], ring_from=900),
    ],
)
def test_a_stream_that_fails_leaves_nothing(script: Script, daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    sandbox = Sandbox.create(config=config)
    daemon.scripts["tar -cf - -C /src ."] = script
    with pytest.raises(Internal):
        archive.receive(sandbox, "/src", tmp_path / "got", None, lambda done, total: None, [])
    assert list(tmp_path.iterdir()) == []


def test_a_directory_goes_in(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    sandbox = Sandbox.create(config=config)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 700_000)
    (tmp_path / "link").symlink_to("d/f")
    daemon.scripts["tar -xf - -C /to"] = Script(echo_stdin=True)
    archive.send(sandbox, tmp_path, "/to", None, lambda done, total: None)
    assert "/to" in daemon.dirs
    with tarfile.open(fileobj=io.BytesIO(bytes(daemon.processes[100].stdin))) as tar:
        assert sorted(tar.getnames()) == ["d", "d/f", "link"]
        assert tar.getmember("link").linkname == "d/f"


def test_a_tar_that_fails_in_the_sandbox_is_an_error(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    sandbox = Sandbox.create(config=config)
    (tmp_path / "f").write_bytes(b"x")
    daemon.scripts["tar -xf - -C /to"] = Script(echo_stdin=True, exit_code=2)
    with pytest.raises(Internal, match="exit status 2"):
        archive.send(sandbox, tmp_path, "/to", None, lambda done, total: None)
