"""Snapshots and pools: made, found, listed, compared, removed."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import AsyncPool, AsyncSandbox, AsyncSnapshot, Config, FileDiff, LimitExceeded, NotFound


async def test_a_snapshot_from_birth_to_end(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    made = await sandbox.snapshot("team/box:v1")
    assert (made.id, made.name, made.sandbox_id, made.parent_id) == ("snap1", "team/box:v1", sandbox.id, None)
    assert (made.kind, made.size_bytes, made.stopped_ms) == ("memory", 3 * 2**20, 41.5)
    assert made.created_at == datetime(2026, 11, 26, 5, tzinfo=timezone.utc)
    assert (await sandbox.snapshot(keep_memory=False)).kind == "filesystem"
    found = await AsyncSnapshot.get("team/box:v1", config=config)
    assert (found.id, repr(found)) == (
        made.id,
        "AsyncSnapshot('team/box:v1')".replace("AsyncSnapshot", type(made).__name__),
    )
    assert (await found.delete(), await made.delete()) == (True, False)
    with pytest.raises(NotFound):
        await AsyncSnapshot.get("team/box:v1", config=config)


@pytest.mark.parametrize("name", ["", ".", "..", "...", "nope", "a/b/../c", "é?"])
async def test_no_such_snapshot(name: str, config: Config) -> None:
    with pytest.raises(NotFound):
        await AsyncSnapshot.get(name, config=config)


async def test_a_sandbox_from_a_snapshot(daemon: FakeDaemon, config: Config) -> None:
    kept = await (await AsyncSandbox.create(config=config)).snapshot("kept")
    for template, sent in ((kept, kept.id), ("kept", "kept")):
        await AsyncSandbox.create(template=template, config=config)
        body = daemon.seen[-1].json()
        assert body["template"] == sent and not {"runtime", "cpu", "memory_mib"} & body.keys()


async def test_lists_come_in_pages(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    for number in range(3):
        await sandbox.snapshot(f"n{number}")
    assert [one.name async for one in AsyncSnapshot.list(page_size=2, config=config)] == ["n0", "n1", "n2"]
    listing = AsyncSnapshot.list(sandbox_id="i1", name="n", config=config)
    await listing.next_page()
    assert daemon.seen[-1].params == {"sandbox": "i1", "name": "n", "limit": "100"}


async def test_a_diff(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    older, newer = await sandbox.snapshot("older"), await sandbox.snapshot("a/newer")
    daemon.diffs = [{"path": "/a", "change": "added", "size_bytes": 5}, {"path": "/b", "change": "removed"}]
    assert await newer.diff(older) == [FileDiff("/a", "added", 5), FileDiff("/b", "removed", 0)]
    assert daemon.seen[-1].params == {"against": older.id, "limit": "10000"}
    assert await newer.diff("older", limit=1) == [FileDiff("/a", "added", 5)]
    assert (await newer.diff())[0].path == "/a"
    assert "against" not in daemon.seen[-1].params
    daemon.diffs *= 5000
    with pytest.raises(LimitExceeded, match="10000"):
        await newer.diff()


async def test_the_tree(daemon: FakeDaemon, config: Config) -> None:
    sandbox = await AsyncSandbox.create(config=config)
    root = await sandbox.snapshot("root")
    left = await sandbox.snapshot("left")
    await sandbox.rollback(root)
    await sandbox.snapshot("right")
    tree = await sandbox.checkpoints()
    assert ([one.name for one in tree], len(tree), tree.head_id) == (["root", "left", "right"], 3, "snap3")
    assert [one.name for one in tree.children()] == ["root"]
    assert [one.name for one in tree.children(root)] == ["left", "right"]
    assert tree.children(left) == []
    lines = str(tree).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["root", "|- left", "`- right"]
    assert lines[2].endswith("<- here")


async def test_a_pool_from_birth_to_end(daemon: FakeDaemon, config: Config) -> None:
    made = await AsyncPool.set("base", ready=4, memory_mib=1024, config=config)
    assert daemon.seen[-1].json() == {"template": "base", "ready": 4, "memory_mib": 1024}
    assert (made.template, made.ready, made.warm, made.info.starting) == ("base", 4, 1, 2)
    assert [one.id for one in await AsyncPool.list(config=config)] == [made.id]
    assert (await AsyncPool.get(made.id, config=config)).info == made.info
    assert (await made.delete(), await made.delete()) == (True, False)
    for id in (made.id, "", "../keys"):
        with pytest.raises(NotFound):
            await AsyncPool.get(id, config=config)
