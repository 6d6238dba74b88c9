from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from atolld.core.project import Project
from atolld.foundation.ids import new_project_id
from atolld.storage.projects import SqlProjects

from ..conftest import Api  # noqa: TID252

UNSET = {"ended_at": None, "end_reason": None, "end_message": None}


async def test_a_sandbox_from_create_to_kill(api: Api) -> None:
    made = await api.create(cpu=2, memory_mib=1024, timeout_s=60, metadata={"run": "7"}, envs={"A": "secret"})
    assert made["state"] == "running" and made["cpu"] == 2 and made["metadata"] == {"run": "7"}
    assert made["timings_ms"].keys() == {"record", "prepare", "start", "publish"}
    assert "envs" not in made and "agent_token" not in made and "handle" not in made
    begun, ends = (datetime.fromisoformat(made[name]) for name in ("started_at", "expires_at"))
    assert (ends - begun).total_seconds() == 60

    path = f"/v1/sandboxes/{made['id']}"
    got = (await api.http.get(path)).json()
    assert made["from_pool"] is False
    assert got == {**made, "timings_ms": None, "from_pool": None}
    killed = await api.http.delete(path)
    assert (killed.status_code, killed.content) == (204, b"")
    assert (await api.error("GET", path))[0] == 404
    ended = (await api.http.get("/v1/sandboxes?state=ended")).json()["items"]
    assert [one["end_reason"] for one in ended] == ["killed"]


async def test_defaults(api: Api) -> None:
    made = await api.create()
    assert {name: made[name] for name in ("template", "cpu", "memory_mib", "disk_mib", "pids_max", "internet")} == {
        "template": "base",
        "cpu": 1.0,
        "memory_mib": 512,
        "disk_mib": 10240,
        "pids_max": 1024,
        "internet": True,
    }
    assert (await api.create(timeout_s=None))["expires_at"] is None


@pytest.mark.parametrize("header, same", [({"idempotency-key": "k"}, True), ({}, False)])
async def test_a_key_makes_a_create_repeatable(api: Api, header: dict[str, str], same: bool) -> None:
    first, second = [
        (await api.http.post("/v1/sandboxes", json={"runtime": "fake"}, headers=header)).json()["id"] for _ in range(2)
    ]
    assert (first == second) is same


async def test_a_key_is_not_for_another_body(api: Api) -> None:
    header = {"idempotency-key": "k"}
    await api.http.post("/v1/sandboxes", json={"runtime": "fake"}, headers=header)
    got = await api.error("POST", "/v1/sandboxes", json={"runtime": "fake", "cpu": 2}, headers=header)
    assert got[:2] == (409, "conflict")


async def test_no_room(api: Api) -> None:
    api.world.node.max_sandboxes = 0
    response = await api.http.post("/v1/sandboxes", json={"runtime": "fake"})
    assert response.status_code == 503 and response.json()["error"]["code"] == "capacity"
    assert response.headers["retry-after"] == "1"


async def test_pages_and_filters(api: Api) -> None:
    ids = []
    for number in range(5):
        ids.append((await api.create(metadata={"n": str(number), "all": "a b&c"}))["id"])
        await api.world.clock.advance(1)
    first = (await api.http.get("/v1/sandboxes", params={"limit": 2, "order": "asc"})).json()
    assert [one["id"] for one in first["items"]] == ids[:2] and first["total_running"] == 5
    rest = await api.http.get("/v1/sandboxes", params={"limit": 100, "order": "asc", "cursor": first["next_cursor"]})
    assert [one["id"] for one in rest.json()["items"]] == ids[2:] and rest.json()["next_cursor"] is None

    async def found(**params: str) -> list[str]:
        return [one["id"] for one in (await api.http.get("/v1/sandboxes", params=params)).json()["items"]]

    assert await found(metadata="n=3") == [ids[3]]
    assert await found(metadata="all=a%20b%26c&n=1") == [ids[1]]
    assert await found(template="other") == []
    middle = (await api.http.get(f"/v1/sandboxes/{ids[2]}")).json()["started_at"]
    assert await found(started_after=middle) == ids[:2:-1]


async def test_timeouts(api: Api) -> None:
    path = f"/v1/sandboxes/{(await api.create(timeout_s=100))['id']}"

    async def left(response_path: str, body: dict[str, int | None] | None) -> float | None:
        response = await api.http.post(path + response_path, json=body)
        assert response.status_code == 200, response.text
        at = response.json()["expires_at"]
        return None if at is None else datetime.fromisoformat(at).timestamp() - api.world.clock.now()

    assert await left("/connect", {"timeout_s": 50}) == pytest.approx(100)
    assert await left("/connect", {"timeout_s": 200}) == pytest.approx(200)
    assert await left("/connect", {}) == pytest.approx(200)
    assert await left("/timeout", {"timeout_s": 10}) == pytest.approx(10)
    assert await left("/timeout", {"timeout_s": None}) is None
    assert (await api.http.post(path + "/connect")).status_code == 200
    for bad in ({}, {"timeout_s": 0}, {"timeout_s": "1"}, {"timeout_s": 1, "x": 1}, {"timeout_s": 10**9}):
        assert (await api.error("POST", path + "/timeout", json=bad))[:2] == (400, "invalid_argument")


async def test_network(api: Api) -> None:
    made = await api.create(mask_request_host="app", deny_out=["8.8.8.8"])
    path = f"/v1/sandboxes/{made['id']}/network"
    names = ("internet", "allow_out", "deny_out", "allow_public_traffic", "mask_request_host")

    async def put(**body: object) -> tuple[object, ...]:
        response = await api.http.put(path, json=body)
        assert response.status_code == 200, response.text
        return tuple(response.json()[name] for name in names)

    assert tuple(made[name] for name in names) == (True, [], ["8.8.8.8"], False, "app")
    assert await put(internet=False) == (False, [], [], False, "app")
    assert await put(internet=True, allow_out=["::1"], allow_public_traffic=True) == (
        True,
        ["::1"],
        [],
        True,
        "app",
    )
    assert await put(internet=True, mask_request_host="") == (True, [], [], True, None)
    for bad in ({"internet": 1}, {}, {"internet": True, "deny_out": ["x"]}, {"internet": True, "allow_out": "1.1.1.1"}):
        assert (await api.error("PUT", path, json=bad))[:2] == (400, "invalid_argument")


async def test_ports_are_closed_unless_asked_for_and_closed_ports_have_a_token(api: Api) -> None:
    assert len((await api.create())["traffic_token"]) > 40
    assert (await api.create(allow_public_traffic=True))["traffic_token"] is None


async def test_another_projects_sandbox_does_not_exist(api: Api) -> None:
    other = await SqlProjects(api.world.database).ensure(Project(new_project_id(), "other"), 0.0)
    _, secret = await api.world.keys.create(other.id, "theirs")
    id = (await api.create())["id"]
    theirs: dict[str, Any] = {"headers": {"x-api-key": secret}}
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/timeout", {"timeout_s": 5}),
        ("POST", "/connect", {}),
        ("PUT", "/network", {"internet": False}),
        ("GET", "/metrics", None),
        ("GET", "/logs", None),
    ):
        assert (await api.error(method, f"/v1/sandboxes/{id}{path}", json=body, **theirs))[:2] == (404, "not_found")
    assert (await api.http.get("/v1/sandboxes", **theirs)).json()["items"] == []
    assert (await api.http.get(f"/v1/sandboxes/{id}/events", **theirs)).json()["items"] == []


@pytest.mark.parametrize("headers", [{"x-api-key": ""}, {"x-api-key": "e2b_" + "0" * 40}, {"x-api-key": "nonsense"}])
async def test_without_a_key_that_serves(api: Api, headers: dict[str, str]) -> None:
    for method, path in (
        ("GET", "/v1/sandboxes"),
        ("POST", "/v1/sandboxes"),
        ("GET", "/v1/keys"),
        ("GET", "/v1/doctor"),
    ):
        status, code, _ = await api.error(method, path, headers=headers, **({"json": {}} if method == "POST" else {}))
        assert (status, code) == (401, "unauthenticated")


async def test_a_key_may_come_as_bearer(api: Api) -> None:
    headers = {"x-api-key": "", "authorization": f"Bearer {api.http.headers['x-api-key']}"}
    assert (await api.http.get("/v1/sandboxes", headers=headers)).status_code == 200
