"""Snapshots as encrypted files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import AsyncSandbox, AsyncSnapshot, AtollError, Config, InvalidArgument, NotFound, PermissionDenied
from atoll._age import Decryptor

ARCHIVE = os.urandom(3_000_001)


async def made(daemon: FakeDaemon, config: Config) -> AsyncSnapshot:
    daemon.archive = ARCHIVE
    return await (await AsyncSandbox.create(config=config)).snapshot("kept")


async def test_there_and_back(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    snapshot = await made(daemon, config)
    file, written, read = tmp_path / "box.atoll", [0], [0]
    size = await snapshot.export(file, passphrase="secret", on_progress=written.append)
    assert size == file.stat().st_size == written[-1] > len(ARCHIVE)
    assert [path.name for path in tmp_path.iterdir()] == ["box.atoll"]
    content = file.read_bytes()
    assert ARCHIVE[:64] not in content
    decryptor = Decryptor("secret")
    assert decryptor.update(content) + decryptor.finish() == ARCHIVE
    got = await AsyncSnapshot.import_(
        file, passphrase="secret", name="team/box", config=config, on_progress=read.append
    )
    assert (got.id, got.name, daemon.imported) == ("imported", "team/box", [("team/box", ARCHIVE)])
    assert read[-1] == size
    assert (await AsyncSnapshot.import_(str(file), passphrase="secret", config=config)).name is None
    # What the daemon saw of it all holds no passphrase.
    assert not any(b"secret" in seen.body or "secret" in str(seen.headers) + seen.query for seen in daemon.seen)


async def test_another_passphrase_sends_nothing(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    snapshot = await made(daemon, config)
    await snapshot.export(tmp_path / "box", passphrase="secret")
    before = len(daemon.seen)
    with pytest.raises(InvalidArgument, match="passphrase"):
        await AsyncSnapshot.import_(tmp_path / "box", passphrase="other", config=config)
    assert len(daemon.seen) == before


async def test_a_file_that_is_no_archive(config: Config, tmp_path: Path) -> None:
    for content in (b"", b"PK\3\4" * 1000):
        (tmp_path / "box").write_bytes(content)
        with pytest.raises(InvalidArgument, match="no archive"):
            await AsyncSnapshot.import_(tmp_path / "box", passphrase="x", config=config)
    with pytest.raises(OSError, match="missing"):
        await AsyncSnapshot.import_(tmp_path / "missing", passphrase="x", config=config)


async def test_a_damaged_file_is_told_as_that(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    snapshot = await made(daemon, config)
    await snapshot.export(tmp_path / "box", passphrase="x")
    content = bytearray((tmp_path / "box").read_bytes())
    content[-100_000] ^= 1
    (tmp_path / "box").write_bytes(content)
    with pytest.raises(InvalidArgument, match="damaged"):
        await AsyncSnapshot.import_(tmp_path / "box", passphrase="x", config=config)
    assert daemon.imported == []


async def test_an_export_that_fails_leaves_no_file(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    snapshot = await made(daemon, config)
    (tmp_path / "box").write_text("before")
    daemon.cut_archive = True
    with pytest.raises(AtollError):
        await snapshot.export(tmp_path / "box", passphrase="x")
    daemon.snapshots.clear()
    with pytest.raises(NotFound):
        await snapshot.export(tmp_path / "box", passphrase="x")
    with pytest.raises(InvalidArgument, match="empty"):
        await snapshot.export(tmp_path / "box", passphrase="")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


async def test_a_refusal_is_told(daemon: FakeDaemon, config: Config, tmp_path: Path) -> None:
    snapshot = await made(daemon, config)
    await snapshot.export(tmp_path / "box", passphrase="x")
    refusal = b'{"error": {"code": "permission_denied", "message": "it is signed by atoll-archive-x"}}'
    daemon.answers["POST /v1/snapshots/import"] = [(403, {}, refusal)]
    with pytest.raises(PermissionDenied, match="atoll-archive-x"):
        await AsyncSnapshot.import_(tmp_path / "box", passphrase="x", config=config)
