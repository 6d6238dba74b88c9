"""Everything the framework refuses is told in the one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from atolld.api.framework import sentence, shown
from atolld.foundation.errors import NotFound

from .conftest import Api

CREATE = "/v1/sandboxes"


@pytest.mark.parametrize(
    "fault, told",
    [
        ({"type": "missing", "loc": ("body", "name")}, "name is required"),
        ({"type": "extra_forbidden", "loc": ("body", "x"), "input": 1}, "x is not a known field; remove it"),
        (
            {"type": "int_type", "loc": ("body", "a", "b"), "input": "1", "msg": "Input should be a valid integer"},
            "a.b is '1': input should be a valid integer",
        ),
        (
            {"type": "less_than_equal", "loc": ("query", "limit"), "input": "9", "msg": "Input should be small"},
            "query parameter limit is '9': input should be small",
        ),
        ({"type": "json_invalid", "loc": ("body", 3), "ctx": {"error": "why"}}, "the body is not valid JSON: why"),
        (
            {"type": "model_attributes_type", "loc": ("body",), "input": b"a=b", "msg": "x"},
            "the body is not JSON: send an object, with the header 'Content-Type: application/json'",
        ),
    ],
)
def test_sentences(fault: Mapping[str, object], told: str) -> None:
    assert sentence([fault]) == told


def test_long_values_are_shortened() -> None:
    assert shown("x" * 1000) == "'" + "x" * 76 + "..."
    assert shown(7) == "7"


@pytest.mark.parametrize(
    "body, names",
    [
        (b"{", "not valid JSON"),
        (b'{"template": "ba', "not valid JSON"),
        (b"", "the body is required"),
        (b"null", "the body"),
        (b"[]", "the body"),
        (b'"x"', "the body"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 30_000, "JSON"),
        (b'{"cpu": "1"}', "cpu is '1'"),
        (b'{"cpu": true}', "cpu is True"),
        (b'{"cpu": NaN}', "cpu is nan"),
        (b'{"cpu": 1e999}', "cpu is inf"),
        (b'{"cpu": -Infinity}', "cpu is -inf"),
        (b'{"cpu": 0}', "cpu is 0"),
        (b'{"cpu": -1}', "cpu is -1"),
        (b'{"memory_mib": 1.5}', "memory_mib is 1.5"),
        (b'{"memory_mib": 0}', "memory_mib is 0"),
        (b'{"memory_mib": 1e3}', "memory_mib"),
        (b'{"memory_mib": 99999999999999999999999}', "memory_mib"),
        (b'{"disk_mib": -1}', "disk_mib is -1"),
        (b'{"pids_max": "many"}', "pids_max is 'many'"),
        (b'{"timeout_s": 0}', "timeout_s is 0"),
        (b'{"timeout_s": -1}', "timeout_s is -1"),
        (b'{"timeout_s": 1.0}', "timeout_s"),
        (b'{"internet": "yes"}', "internet is 'yes'"),
        (b'{"envs": {"A": 1}}', "envs.A is 1"),
        (b'{"envs": {"A=B": "x"}}', "A=B"),
        (b'{"envs": {"A": "\\u0000"}}', "NUL"),
        (b'{"envs": []}', "envs is []"),
        (b'{"metadata": {"k": null}}', "metadata.k is None"),
        (b'{"metadata": {"": "x"}}', "metadata"),
        (b'{"template": 7}', "template is 7"),
        (b'{"template": "../x"}', "template is '../x'"),
        (b'{"template": "A b"}', "template is 'A b'"),
        (b'{"runtime": ""}', "runtime name"),
        (b'{"unknown": 1}', "unknown is not a known field"),
        (b'{"cpu": 1, "Cpu": 1}', "Cpu is not a known field"),
    ],
)
async def test_bad_bodies_of_a_create(api: Api, body: bytes, names: str) -> None:
    status, code, message = await api.error("POST", CREATE, content=body, headers={"content-type": "application/json"})
    assert (status, code) == (400, "invalid_argument")
    assert names in message
    assert len(message) < 300
    assert api.world.node.calls == []


@pytest.mark.parametrize(
    "method, path, status, code, says",
    [
        ("GET", "/v1/", 404, "not_found", "GET /v1/"),
        ("GET", "/v1/nothing", 404, "not_found", "/v1/nothing"),
        ("GET", "/v1/sandboxes/", 404, "not_found", "there is no GET /v1/sandboxes/"),
        ("GET", "/v1/docs", 404, "not_found", "/v1/docs"),
        ("PATCH", "/v1/sandboxes", 405, "invalid_argument", "PATCH is not possible here"),
        ("POST", "/health", 405, "invalid_argument", "use GET"),
        ("GET", "/v1/sandboxes?limit=0", 400, "invalid_argument", "limit is '0'"),
        ("GET", "/v1/sandboxes?limit=101", 400, "invalid_argument", "limit is '101'"),
        ("GET", "/v1/sandboxes?limit=x", 400, "invalid_argument", "limit is 'x'"),
        ("GET", "/v1/sandboxes?state=dead", 400, "invalid_argument", "state"),
        ("GET", "/v1/sandboxes?order=up", 400, "invalid_argument", "order is 'up'"),
        ("GET", "/v1/sandboxes?cursor=zzz", 400, "invalid_argument", "cursor"),
        ("GET", "/v1/sandboxes?metadata=novalue", 400, "invalid_argument", "metadata is 'novalue'"),
        ("GET", "/v1/sandboxes?started_after=yesterday", 400, "invalid_argument", "started_after"),
        ("GET", "/v1/sandboxes/..%2f..%2fetc", 404, "not_found", ""),
        ("GET", "/v1/sandboxes/UPPER", 404, "not_found", "no such sandbox"),
        ("GET", "/v1/sandboxes/i0000000000000000000", 404, "not_found", "i0000000000000000000"),
        ("DELETE", "/v1/sandboxes/i0000000000000000000", 404, "not_found", "i0000000000000000000"),
        ("GET", "/v1/templates/none", 404, "not_found", "none"),
        ("DELETE", "/v1/keys/none", 404, "not_found", ""),
        ("GET", "/v1/events?after=-1", 400, "invalid_argument", "after is '-1'"),
        ("GET", "/v1/events?limit=1001", 400, "invalid_argument", "limit"),
    ],
)
async def test_bad_requests(api: Api, method: str, path: str, status: int, code: str, says: str) -> None:
    got = await api.error(method, path)
    assert got[:2] == (status, code)
    assert says in got[2]


async def test_an_error_of_control_keeps_its_kind(api: Api) -> None:
    api.world.node.fail("launch", NotFound("no such runtime"))
    assert (await api.error("POST", CREATE, json={"runtime": "fake"}))[:2] == (404, "not_found")


async def test_an_unexpected_exception_shows_nothing_of_itself(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is 1234")

    monkeypatch.setattr(type(api.world.sandboxes), "get", broken)
    status, code, message = await api.error("GET", "/v1/sandboxes/i0000000000000000000")
    assert (status, code) == (500, "internal")
    assert "1234" not in message and "RuntimeError" not in message
    assert any(record.exc_info and "1234" in str(record.exc_info[1]) for record in caplog.records)
