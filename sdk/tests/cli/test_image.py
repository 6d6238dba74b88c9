"""`atoll image`."""

from __future__ import annotations

import json
from pathlib import Path

from sdk.tests.cli.conftest import Atoll
from sdk.tests.fake_daemon import FakeDaemon

IMAGE = {
    "name": "debian:12",
    "digest": "sha256:" + "1" * 64,
    "platform": "linux/amd64",
    "size_bytes": 5,
    "pulled_at": "2026-01-01T00:00:00Z",
}
LAYER = "sha256:" + "c" * 64
PULL = "POST /v1/images/pull"
BODY = b"".join(
    json.dumps(step).encode() + b"\n"
    for step in (
        {"phase": "resolve"},
        {"phase": "download", "layer": LAYER, "bytes": 5, "total_bytes": 10},
        {"phase": "unpack", "layer": LAYER, "bytes": 10, "total_bytes": 10},
        {"image": IMAGE},
    )
)


def test_pull(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.answers[PULL] = [(200, {}, BODY)] * 3
    outcome = atoll("image", "pull", "debian:12")
    assert (outcome.code, outcome.out, outcome.err) == (0, "debian:12\n", "cccccccccccc: unpacking (10 B)\n")
    outcome = atoll("image", "pull", "debian:12", "--json")
    assert (json.loads(outcome.out), outcome.err) == (IMAGE, "")
    atoll("image", "pull", "debian:12", "-u", "me", "--password-stdin", "--insecure", stdin=b"secret\n")
    assert daemon.seen[-1].json() == {
        "reference": "debian:12",
        "username": "me",
        "password": "secret",
        "insecure": True,
    }
    assert atoll("image", "pull", "debian:12", "-u", "me").code == 2


def test_a_pull_that_fails(atoll: Atoll, daemon: FakeDaemon) -> None:
    fault = {"error": {"code": "invalid_argument", "message": "a layer is refused"}}
    daemon.answers[PULL] = [(200, {}, json.dumps(fault).encode() + b"\n")]
    outcome = atoll("image", "pull", "debian:12")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "atoll: a layer is refused [invalid_argument]\n")


def test_list_delete_prune(atoll: Atoll, daemon: FakeDaemon) -> None:
    daemon.machine["/v1/images"] = {"items": [IMAGE]}
    assert atoll("image", "list").out.splitlines()[1].split()[:3] == ["debian:12", "111111111111", "linux/amd64"]
    assert json.loads(atoll("image", "list", "--json").out) == [IMAGE]
    daemon.answers["DELETE /v1/images/debian%3A12"] = [(204, {}, b"")]
    outcome = atoll("image", "delete", "debian:12", "nope")
    assert (outcome.code, outcome.out, outcome.err) == (1, "debian:12: deleted\n", "nope: not found\n")
    daemon.answers["POST /v1/images/prune"] = [(200, {}, b'{"layers": ["aa"]}')]
    assert atoll("image", "prune").out == "1 layer removed\n"


def test_archives(atoll: Atoll, daemon: FakeDaemon, tmp_path: Path) -> None:
    source, target = tmp_path / "in.tar", tmp_path / "out.tar"
    source.write_bytes(b"x" * 1000)
    daemon.answers["POST /v1/images/import"] = [(201, {}, json.dumps(IMAGE).encode())]
    assert atoll("image", "import", str(source), "debian:12").out == "debian:12\n"
    assert (daemon.seen[-1].params, daemon.seen[-1].body) == ({"name": "debian:12"}, b"x" * 1000)
    daemon.answers["GET /v1/images/base/archive"] = [(200, {}, b"y" * 1000)]
    assert json.loads(atoll("image", "export", "base", str(target), "--json").out)["bytes"] == 1000
    assert target.read_bytes() == b"y" * 1000
