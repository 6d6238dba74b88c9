"""Bad requests get a 4xx with a code and a sentence, and leave nothing."""

from __future__ import annotations

import socket

import pytest

from e2e.conftest import Daemon

LONG = "x" * 200_000


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"template": "nope"}, 404, "nope"),
        ({"runtime": "nope"}, 404, "nope"),
        ({"template": "../etc"}, 400, "../etc"),
        ({"template": "a\nb"}, 400, "template"),
        ({"cpu": -1}, 400, "cpu"),
        ({"cpu": 1e300}, 400, "cpu"),
        ({"cpu": "two"}, 400, "cpu"),
        ({"memory_mib": 0}, 400, "memory_mib"),
        ({"memory_mib": 10**30}, 400, "memory_mib"),
        ({"memory_mib": 512.5}, 400, "memory_mib"),
        ({"disk_mib": -7}, 400, "disk_mib"),
        ({"timeout_s": 0}, 400, "timeout_s"),
        ({"timeout_s": 10**12}, 400, "timeout_s"),
        ({"envs": {"A=B": "1"}}, 400, "A=B"),
        ({"envs": {"A": "\0"}}, 400, "A"),
        ({"envs": {"A": 1}}, 400, "envs"),
        ({"metadata": {"k": LONG[:4000]}}, 400, "metadata"),
        ({"no_such_field": 1}, 400, "no_such_field"),
        ([], 400, ""),
    ],
)
def test_create(daemon: Daemon, body: object, status: int, told: str) -> None:
    before = daemon.settle().counts()
    answer = daemon.api("POST", "/v1/sandboxes", json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] and error["message"] and error["request_id"]
    assert told in error["message"]
    assert daemon.census().counts() == before
    assert daemon.api("GET", "/v1/sandboxes").json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/sandboxes/i0000000000000000000", 404),
        ("GET", "/v1/sandboxes/..%2f..%2fetc", 404),
        ("GET", "/v1/sandboxes/%00", 400),
        ("DELETE", "/v1/sandboxes/i0000000000000000000", 404),
        ("GET", "/v1/nothing", 404),
        ("PATCH", "/v1/sandboxes", 405),
        ("GET", "/v1/sandboxes?limit=0", 400),
        ("GET", "/v1/sandboxes?limit=101", 400),
        ("GET", "/v1/sandboxes?cursor=nonsense", 400),
        ("GET", "/v1/sandboxes?state=flying", 400),
        ("POST", "/v1/sandboxes/i0000000000000000000/agent/process.Process/List", 404),
        ("GET", "/v1/sandboxes/i0000000000000000000/ports/99999/", 400),
    ],
)
def test_paths(daemon: Daemon, method: str, path: str, status: int) -> None:
    answer = daemon.api(method, path)
    assert answer.status_code in {status, 404 if status == 400 else status}, answer.text
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize("key", ["nonsense", "nonsense nonsense", "e2b_" + "0" * 40, "é"])
def test_a_wrong_key(daemon: Daemon, key: str) -> None:
    answer = daemon.api("GET", "/v1/sandboxes", headers={"authorization": f"Bearer {key}".encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthenticated"


def test_a_body_cut_off(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as raw:
        raw.sendall(
            f"POST /v1/sandboxes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {daemon.key}\r\n"
            'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"template": "ba'.encode()
        )
        raw.shutdown(socket.SHUT_WR)
        raw.recv(4096)
    assert daemon.api("GET", "/v1/sandboxes").json()["items"] == []


def test_two_hundred_kilobytes_of_json(daemon: Daemon) -> None:
    answer = daemon.api("POST", "/v1/sandboxes", content=b'{"metadata": {"a": "' + b"x" * 200_000 + b'"}}')
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


def test_json_that_is_none(daemon: Daemon) -> None:
    for content in (b"{", b"", b"\xff\xfe", b"[" * 50_000, b'{"cpu": NaN}', b'{"cpu": 1e999}'):
        answer = daemon.api("POST", "/v1/sandboxes", content=content, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (content[:20], answer.text)
        assert answer.json()["error"]["code"] == "invalid_argument"
