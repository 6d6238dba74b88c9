"""The other commands: what they print, and what they answer with."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_daemon import FakeDaemon

from atoll.cli import machine
from atoll.cli.cp import split
from atoll.cli.output import age, clean, size

CHECKS = [
    {"name": "gvisor", "ok": True, "summary": "usable", "remedy": "", "fatal": True},
    {"name": "dns", "ok": False, "summary": "no answer", "remedy": "look at /etc/resolv.conf", "fatal": False},
]


def test_the_life_of_a_sandbox(atoll: Atoll, daemon: FakeDaemon) -> None:
    assert atoll("sandbox", "create", "--metadata", "run=7", "--timeout", "0").out == "sbx1\n"
    assert daemon.seen[0].json()["timeout_s"] is None
    listed = atoll("sandbox", "list").out.splitlines()
    assert listed[0].split()[:2] == ["ID", "STATE"]
    assert listed[1].split()[:2] == ["sbx1", "running"]
    assert atoll("sandbox", "list", "-q", "--metadata", "run=7").out == "sbx1\n"
    assert atoll("sandbox", "list", "-q", "--metadata", "run=8").out == ""
    assert "run=7" in atoll("sandbox", "info", "sbx1").out
    assert json.loads(atoll("sandbox", "info", "sbx1", "--json").out)["id"] == "sbx1"
    assert "5 B" in atoll("sandbox", "metrics", "sbx1").out
    assert atoll("sandbox", "logs", "sbx1").out.split()[1:] == ["info", "m"]
    assert atoll("sandbox", "kill", "sbx1").code == 0
    gone = atoll("sandbox", "kill", "sbx1")
    assert (gone.code, gone.err) == (1, "sbx1: not found\n")


def test_list_asks_for_the_living_unless_told_otherwise(atoll: Atoll, daemon: FakeDaemon) -> None:
    atoll("sandbox", "list")
    assert daemon.seen[-1].query.count("state=") == 7 and "ended" not in daemon.seen[-1].query
    atoll("sandbox", "list", "--all")
    assert daemon.seen[-1].query.count("state=") == 8
    atoll("sandbox", "list", "--state", "paused")
    assert daemon.seen[-1].query.count("state=") == 1
    assert json.loads(atoll("sandbox", "list", "--json").out) == []


def test_kill_all(atoll: Atoll, daemon: FakeDaemon) -> None:
    for _ in range(3):
        atoll("sandbox", "create")
    assert json.loads(atoll("sandbox", "kill", "--all", "--json").out) == dict.fromkeys(
        ("sbx1", "sbx2", "sbx3"), "killed"
    )
    assert atoll("sandbox", "kill", "--all").code == 0


def test_keys(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine["/v1/keys"] = {"key": {"id": "k1"}, "secret": "e2b_0"}
    made = atoll("key", "create", "ci")
    assert (made.out, "cannot be shown again" in made.err) == ("e2b_0\n", True)
    assert daemon.seen[-1].json() == {"name": "ci"}
    daemon.machine["/v1/keys"] = {"items": [{"id": "k1", "name": "\x1b[31mci", "prefix": "e2b_0123", "more": 1}]}
    table = atoll("key", "list").out
    assert "k1  \ufffd[31mci  e2b_0123" in table
    assert atoll("key", "revoke", "k1").code == 0
    assert (daemon.seen[-1].method, daemon.seen[-1].path) == ("DELETE", "/v1/keys/k1")


def test_templates_and_runtimes(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine["/v1/templates"] = {
        "items": [{"id": "t1", "name": "base", "size_bytes": 3 * 2**20, "built_at": "x"}]
    }
    assert "base  t1  private  -     3.0 MiB" in atoll("template", "list").out
    good = {"name": "gvisor", "usable": True, "version": "1", "isolation": "its own kernel", "reason": ""}
    bad = {"name": "microvm", "usable": False, "version": "", "isolation": "", "reason": "no /dev/kvm"}
    daemon.machine["/v1/runtimes"] = {"items": [good, bad]}
    lines = atoll("runtime", "list").out.splitlines()
    assert lines[1].split(maxsplit=3) == ["gvisor", "yes", "1", "its own kernel"]
    assert lines[2].split(maxsplit=3) == ["microvm", "no", "-", "no /dev/kvm"]


def test_version(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine["/v1/version"] = {"version": "9.9", "api": "v1"}
    assert "daemon 9.9" in atoll("version").out
    assert json.loads(atoll("--api-url", "http://127.0.0.1:9", "version", "--json").out)["daemon"] is None


def test_the_doctor_says_what_to_do(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine["/v1/doctor"] = {"ok": True, "checks": CHECKS}
    outcome = atoll("doctor")
    assert outcome.code == 0
    assert "warn dns: no answer\n       look at /etc/resolv.conf" in outcome.out
    assert "ok   gvisor: usable\n" in outcome.out
    daemon.machine["/v1/doctor"] = {"ok": False, "checks": CHECKS}
    assert atoll("doctor", "--json").code == 1


def test_the_doctor_without_a_daemon(atoll: Atoll, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATOLL_API_URL", "http://127.0.0.1:9")
    program = tmp_path / "atolld"
    program.write_text(f"#!{sys.executable}\nprint('''{json.dumps({'ok': True, 'checks': CHECKS})}''')\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(machine, "find_daemon", lambda: str(program))
    monkeypatch.setattr("atoll.cli.doctor.find_daemon", lambda: str(program))
    outcome = atoll("doctor")
    assert outcome.code == 1
    assert "FAIL daemon: no daemon answers" in outcome.out
    assert "ok   gvisor" in outcome.out
    program.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    assert "failed with code 3: broken" in atoll("doctor").err
    monkeypatch.setattr("atoll.cli.doctor.find_daemon", lambda: None)
    assert "connection_failed" in atoll("doctor").err


def test_serve_says_what_is_missing(atoll: Atoll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_daemon", lambda: None)
    outcome = atoll("serve", "--port", "1")
    assert (outcome.code, "atolld" in outcome.err) == (1, True)


def test_serve_becomes_the_daemon(atoll: Atoll, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(machine, "find_daemon", lambda: "/x/atolld")
    monkeypatch.setattr("os.execv", lambda *call: calls.append(call))
    atoll("serve", "--bind", "x", "--help")
    assert calls == [("/x/atolld", ["/x/atolld", "serve", "--bind", "x", "--help"])]


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["sandbox"], ["sandbox", "cp"], ["sandbox", "shell"], ["sandbox", "exec"], ["key"], ["doctor"]],
)
def test_help(command: list[str], atoll: Atoll) -> None:
    outcome = atoll(*command, "--help")
    assert (outcome.code, outcome.out[:12]) == (0, "Usage: atoll")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i1:/a", ("i1", "/a")),
        ("i1:", ("i1", ".")),
        ("i1:a:b", ("i1", "a:b")),
        ("/a:b", (None, "/a:b")),
        ("./i1:b", (None, "./i1:b")),
        ("plain", (None, "plain")),
        ("", (None, "")),
    ],
)
def test_paths_of_cp(text: str, expected: tuple[str | None, str]) -> None:
    assert split(text) == expected


def test_cp_of_files(atoll: Atoll, daemon: FakeDaemon, tmp_path: Path) -> None:
    atoll("sandbox", "create")
    source = tmp_path / "a"
    source.write_bytes(b"content")
    assert atoll("sandbox", "cp", str(source), "sbx1:/home/user/b").code == 0
    assert atoll("sandbox", "cp", str(source), "sbx1:/home/user").code == 0
    assert daemon.files == {"/home/user/b": b"content", "/home/user/a": b"content"}
    assert json.loads(atoll("sandbox", "cp", "--json", "sbx1:/home/user/b", str(tmp_path)).out)["bytes"] == 7
    assert (tmp_path / "b").read_bytes() == b"content"
    assert "not_found" in atoll("sandbox", "cp", "sbx1:/nope", str(tmp_path)).err
    assert atoll("sandbox", "cp", "a", "b").code == 2
    assert atoll("sandbox", "cp", "sbx1:a", "sbx1:b").code == 2


def test_texts_for_people() -> None:
    assert clean("a\x1b]0;title\x07\nb\x9b") == "a\ufffd]0;title\ufffd\nb\ufffd"
    assert [size(value) for value in (0, 1023, 1536, 5 * 2**40)] == ["0 B", "1023 B", "1.5 KiB", "5120.0 GiB"]
    assert age(None) == "-"
