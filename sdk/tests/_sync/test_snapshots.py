# Generated from `tests/_async/test_snapshots.py` by `scripts/unasync.py`: change that, not this.
"""Snapshots and pools: made, found, listed, compared, removed."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from sdk.tests.fake_daemon import FakeDaemon

from atoll import Pool, Sandbox, Snapshot, Config, FileDiff, LimitExceeded, NotFound


def test_a_snapshot_from_birth_to_end(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    made = sandbox.snapshot("team/box:v1")
    assert (made.id, made.name, made.sandbox_id, made.parent_id) == ("snap1", "team/box:v1", sandbox.id, None)
    assert (made.kind, made.size_bytes, made.stopped_ms) == ("memory", 3 * 2**20, 41.5)
    assert made.created_at == datetime(2026, 11, 26, 5, tzinfo=timezone.utc)
    assert (sandbox.snapshot(keep_memory=False)).kind == "filesystem"
    found = Snapshot.get("team/box:v1", config=config)
    assert (found.id, repr(found)) == (
        made.id,
        "Snapshot('team/box:v1')".replace("Snapshot", type(made).__name__),
    )
    assert (found.delete(), made.delete()) == (True, False)
    with pytest.raises(NotFound):
        Snapshot.get("team/box:v1", config=config)


@pytest.mark.parametrize("name", ["", ".", "..", "...", "nope", "a/b/../c", "é?"])
def test_no_such_snapshot(name: str, config: Config) -> None:
    with pytest.raises(NotFound):
        Snapshot.get(name, config=config)


def test_a_sandbox_from_a_snapshot(daemon: FakeDaemon, config: Config) -> None:
    kept = (Sandbox.create(config=config)).snapshot("kept")
    for template, sent in ((kept, kept.id), ("kept", "kept")):
        Sandbox.create(template=template, config=config)
        body = daemon.seen[-1].json()
        assert body["template"] == sent and not {"runtime", "cpu", "memory_mib"} & body.keys()


def test_lists_come_in_pages(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    for number in range(3):
        sandbox.snapshot(f"n{number}")
    assert [one.name for one in Snapshot.list(page_size=2, config=config)] == ["n0", "n1", "n2"]
    listing = Snapshot.list(sandbox_id="i1", name="n", config=config)
    listing.next_page()
    assert daemon.seen[-1].params == {"sandbox": "i1", "name": "n", "limit": "100"}


def test_a_diff(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    older, newer = sandbox.snapshot("older"), sandbox.snapshot("a/newer")
    daemon.diffs = [{"path": "/a", "change": "added", "size_bytes": 5}, {"path": "/b", "change": "removed"}]
    assert newer.diff(older) == [FileDiff("/a", "added", 5), FileDiff("/b", "removed", 0)]
    assert daemon.seen[-1].params == {"against": older.id, "limit": "10000"}
    assert newer.diff("older", limit=1) == [FileDiff("/a", "added", 5)]
    assert (newer.diff())[0].path == "/a"
    assert "against" not in daemon.seen[-1].params
    daemon.diffs *= 5000
    with pytest.raises(LimitExceeded, match="10000"):
        newer.diff()


def test_the_tree(daemon: FakeDaemon, config: Config) -> None:
    sandbox = Sandbox.create(config=config)
    root = sandbox.snapshot("root")
    left = sandbox.snapshot("left")
    sandbox.rollback(root)
    sandbox.snapshot("right")
    tree = sandbox.checkpoints()
    assert ([one.name for one in tree], len(tree), tree.head_id) == (["root", "left", "right"], 3, "snap3")
    assert [one.name for one in tree.children()] == ["root"]
    assert [one.name for one in tree.children(root)] == ["left", "right"]
    assert tree.children(left) == []
    lines = str(tree).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["root", "|- left", "`- right"]
    assert lines[2].endswith("<- here")


def test_a_pool_from_birth_to_end(daemon: FakeDaemon, config: Config) -> None:
    made = Pool.set("base", ready=4, memory_mib=1024, config=config)
    assert daemon.seen[-1].json() == {"template": "base", "ready": 4, "memory_mib": 1024}
    assert (made.template, made.ready, made.warm, made.info.starting) == ("base", 4, 1, 2)
    assert [one.id for one in Pool.list(config=config)] == [made.id]
    assert (Pool.get(made.id, config=config)).info == made.info
    assert (made.delete(), made.delete()) == (True, False)
    for id in (made.id, "", "../keys"):
        with pytest.raises(NotFound):
            Pool.get(id, config=config)
