"""Pausing, copying, keeping and rewinding on the command line, and pools."""

from __future__ import annotations

import json

import pytest
from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_daemon import FakeDaemon

FULL = {"code": "capacity", "message": "the machine is full"}


def test_pause_resume_freeze(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    assert atoll("sandbox", "pause", "sbx1").out == "sbx1: paused\n"
    assert atoll("sandbox", "pause", "sbx1").out == "sbx1: paused already\n"
    assert atoll("sandbox", "list").out.splitlines()[1].split()[:2] == ["sbx1", "paused"]
    assert "paused" in atoll("sandbox", "info", "sbx1").out
    assert daemon.sandboxes["sbx1"]["state"] == "paused"
    assert atoll("sandbox", "resume", "sbx1", "--timeout", "60").out == "sbx1: resumed\n"
    assert daemon.seen[-1].json() == {"timeout_s": 60}
    assert json.loads(atoll("sandbox", "resume", "--json", "sbx1").out) == {"sbx1": "running already"}
    assert atoll("sandbox", "freeze", "sbx1").out == "sbx1: frozen\n"
    atoll("sandbox", "pause", "--files-only", "sbx1")
    assert daemon.seen[-1].json() == {"kind": "filesystem"}


def test_one_that_fails_does_not_keep_the_others(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    outcome = atoll("sandbox", "pause", "nope", "sbx1")
    assert (outcome.code, outcome.out) == (1, "sbx1: paused\n")
    assert outcome.err == "nope: there is no sandbox nope [not_found]\n"


def test_looking_does_not_wake_and_using_does(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    atoll("sandbox", "pause", "sbx1")
    for command in (("info", "sbx1"), ("metrics", "sbx1"), ("logs", "sbx1"), ("checkpoints", "sbx1"), ("list",)):
        assert atoll("sandbox", *command).code == 0
        assert daemon.sandboxes["sbx1"]["state"] == "paused"
    assert atoll("sandbox", "exec", "sbx1", "--", "true").code == 0
    assert daemon.sandboxes["sbx1"]["state"] == "running"


def test_fork(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    assert atoll("sandbox", "fork", "sbx1", "--count", "2", "--timeout", "9").out == "sbx2\nsbx3\n"
    assert daemon.seen[-1].json() == {"count": 2, "timeout_s": 9}
    assert [one["id"] for one in json.loads(atoll("sandbox", "fork", "sbx1", "--json").out)] == ["sbx4"]
    daemon.fork_faults = [FULL]
    outcome = atoll("sandbox", "fork", "sbx1", "--count", "2")
    assert (outcome.code, "1 of 2 siblings did not come up: the machine is full [fork_failed]" in outcome.err) == (
        1,
        True,
    )
    daemon.fork_faults = [FULL]
    outcome = atoll("sandbox", "fork", "sbx1", "--count", "2", "--partial")
    assert (outcome.code, outcome.out, outcome.err) == (1, "sbx6\n", "1 of 2 did not come up\n")


def test_snapshots(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    assert atoll("snapshot", "create", "sbx1", "team/box:v1").out == "snap1\n"
    assert json.loads(atoll("snapshot", "create", "sbx1", "--files-only", "--json").out)["kind"] == "filesystem"
    lines = atoll("snapshot", "list").out.splitlines()
    assert lines[1].split()[:5] == ["snap1", "team/box:v1", "memory", "3.0", "MiB"]
    assert atoll("snapshot", "list", "-q", "--limit", "1").out == "snap1\n"
    atoll("snapshot", "list", "--sandbox", "sbx1", "--name", "n")
    assert {"sandbox": "sbx1", "name": "n"}.items() <= daemon.seen[-1].params.items()
    assert "41.5 ms" in atoll("snapshot", "info", "team/box:v1").out
    assert json.loads(atoll("snapshot", "info", "snap1", "--json").out)["name"] == "team/box:v1"
    assert atoll("sandbox", "create", "--template", "team/box:v1").code == 0
    assert daemon.seen[-1].json()["template"] == "team/box:v1"
    deleted = atoll("snapshot", "delete", "team/box:v1", "nope")
    assert (deleted.code, deleted.out, deleted.err) == (1, "team/box:v1: deleted\n", "nope: not found\n")
    assert json.loads(atoll("snapshot", "delete", "--json", "snap2").out) == {"snap2": "deleted"}


def test_the_tree_and_the_way_back(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    assert "no checkpoints" in atoll("sandbox", "checkpoints", "sbx1").out
    for name in ("a", "b"):
        atoll("snapshot", "create", "sbx1", name)
    drawn = atoll("sandbox", "checkpoints", "sbx1").out.splitlines()
    assert [line.split("  ")[0] for line in drawn] == ["a", "`- b"] and drawn[1].endswith("<- here")
    assert atoll("sandbox", "rollback", "sbx1", "a").out == "sbx1: rolled back to a\n"
    told = json.loads(atoll("sandbox", "checkpoints", "sbx1", "--json").out)
    assert (told["head_id"], [one["name"] for one in told["items"]]) == ("snap1", ["a", "b"])
    assert json.loads(atoll("sandbox", "rollback", "sbx1", "b", "--json").out)["head_id"] == "snap2"
    assert "not_found" in atoll("sandbox", "rollback", "sbx1", "nope").err


def test_a_diff(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "create")
    for name in ("before", "after"):
        atoll("snapshot", "create", "sbx1", name)
    daemon.diffs = [
        {"path": "/a\x1b\n", "change": "added", "size_bytes": 5},
        {"path": "/b", "change": "removed", "size_bytes": 0},
        {"path": "/c", "change": "changed", "size_bytes": 1536},
    ]
    told = atoll("snapshot", "diff", "before", "after").out
    assert told == "+ /a\ufffd\ufffd  5 B\n- /b\n~ /c  1.5 KiB\n"
    assert daemon.seen[-1].path.endswith("/snap2/diff") and daemon.seen[-1].params["against"] == "before"
    assert len(json.loads(atoll("snapshot", "diff", "after", "--limit", "2", "--json").out)) == 2
    assert "against" not in daemon.seen[-1].params
    assert atoll("snapshot", "diff", "a", "b", "c").code == 2


def test_pools(atoll: Atoll, daemon: FakeDaemon) -> None:
    assert atoll("pool", "set", "base", "--ready", "4", "--memory", "1024").out == "pool1\n"
    assert daemon.seen[-1].json() == {"template": "base", "ready": 4, "memory_mib": 1024}
    line = atoll("pool", "list").out.splitlines()[1].split()
    assert line == ["pool1", "base", "gvisor", "0", "1024", "MiB", "4", "1", "2", "0", "0", "-"]
    assert "ready      4" in atoll("pool", "info", "base").out
    atoll("pool", "set", "base", "--ready", "1", "--json")
    assert "name one: pool1, pool2" in atoll("pool", "info", "base").err
    assert atoll("pool", "delete", "pool1").out == "pool1: deleted\n"
    assert json.loads(atoll("pool", "delete", "base", "--json").out) == {"id": "pool2", "deleted": True}
    assert "not_found" in atoll("pool", "delete", "base").err
    assert json.loads(atoll("pool", "list", "--json").out) == []
    assert atoll("pool", "set", "base").code == 2


def test_policies_of_a_create(atoll: Atoll, daemon: FakeDaemon) -> None:
    arguments = ("--on-timeout", "pause", "--idle-timeout", "60", "--pause-after", "600")
    atoll("sandbox", "create", *arguments, "--no-auto-resume", "--files-only")
    assert {
        "on_timeout": "pause",
        "idle_timeout_s": 60,
        "pause_after_s": 600,
        "auto_resume": False,
        "keep_memory": False,
    }.items() <= daemon.seen[-1].json().items()
    told = atoll("sandbox", "info", "sbx1").out
    assert "freeze after 60 s, pause 600 s later" in told
    assert atoll("run", "--on-idle", "pause", "--idle-timeout", "5", "--", "true").code == 0
    create = [seen for seen in daemon.seen if seen.method == "POST" and seen.path == "/v1/sandboxes"][-1]
    assert create.json()["on_idle"] == "pause"


@pytest.mark.parametrize(
    "command",
    [
        *(["sandbox", verb] for verb in ("create", "pause", "resume", "freeze", "fork", "rollback", "checkpoints")),
        *(["snapshot", verb] for verb in ("create", "list", "info", "delete", "diff")),
        *(["pool", verb] for verb in ("set", "list", "info", "delete")),
        ["snapshot"],
        ["pool"],
    ],
)
def test_help_has_examples(command: list[str], atoll: Atoll) -> None:
    outcome = atoll(*command, "--help")
    assert outcome.code == 0 and "Example" in outcome.out
    assert "--json" in outcome.out or len(command) == 1
