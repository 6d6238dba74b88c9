"""Answers of a daemon that builds, for the tests."""

from __future__ import annotations

import json
from typing import Any

from sdk.tests.fake_daemon import FakeDaemon

BUILD: dict[str, Any] = {
    "id": "b1",
    "template_id": "t1",
    "state": "ready",
    "tags": ["stable"],
    "created_at": "2026-11-23T05:00:00Z",
    "finished_at": "2026-11-23T05:01:00Z",
    "size_bytes": 3 * 1024 * 1024,
    "saved": False,
    "failure": None,
}
FAILURE = {"message": "step 2, 'make', ended with exit code 2", "step": "2", "exit_code": 2, "last_lines": ["no rule"]}
TEMPLATE: dict[str, Any] = {
    "id": "t1",
    "name": "app",
    "machine": False,
    "public": False,
    "built_at": "2026-11-23T05:01:00Z",
    "size_bytes": 3 * 1024 * 1024,
    "cpu": 1.0,
    "memory_mib": 512,
    "disk_mib": 10240,
    "tags": [{"tag": "stable", "build_id": "b1", "assigned_at": "2026-11-23T05:01:00Z"}],
    "build": BUILD,
}
LOG = [
    {"at": "2026-11-23T05:00:01Z", "level": "info", "message": "[builder 1/2] RUN a", "step": "1"},
    {"at": "2026-11-23T05:00:02Z", "level": "error", "message": "no rule", "step": "2"},
]
STEP_ERROR = {
    "error": {
        "code": "failed_precondition",
        "message": FAILURE["message"],
        "details": {"step": "2", "exit_code": 2, "last_lines": ["no rule"]},
    }
}


def lines(*values: object) -> bytes:
    """As the daemon sends them."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def can_build(daemon: FakeDaemon, build: dict[str, Any] | None = None) -> None:
    """Let one build of a template end as `build`."""
    ended = json.dumps(build or BUILD).encode()
    path = "/v1/templates/t1/builds/b1"
    asked = {"template_id": "t1", "build_id": "b1", "name": "app", "tags": [], "public": False}
    daemon.answers |= {
        "POST /v1/templates": [(201, {}, json.dumps(asked).encode())],
        "POST /v1/templates/builtin/code-interpreter-v1": [(202, {}, json.dumps(asked).encode())],
        f"POST {path}": [(202, {}, json.dumps({**BUILD, "state": "building"}).encode())],
        f"GET {path}/logs": [(200, {}, lines(*LOG))],
        f"GET {path}": [(200, {}, ended)] * 2,
        f"DELETE {path}": [(204, {}, b"")],
    }


def can_make_images(daemon: FakeDaemon, *last: object) -> None:
    """Let images be built, one for each of `last`, the line at its end."""
    daemon.answers["POST /v1/images/build"] = [(200, {}, lines({"log": LOG[0]}, one)) for one in last]
