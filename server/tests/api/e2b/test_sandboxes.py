from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from atolld.core.network import NetworkPolicy
from atolld.core.project import Project
from atolld.foundation.ids import SandboxId, new_project_id
from atolld.storage.projects import SqlProjects

from .conftest import E2b

NOBODY = "izzzzzzzzzzzzzzzzzzz"


def lives_s(detail: dict[str, Any], e2b: E2b) -> float:
    return datetime.fromisoformat(detail["endAt"]).timestamp() - e2b.api.world.clock.now()


async def test_the_second_form_is_secure_and_lives_five_minutes(e2b: E2b) -> None:
    made = await e2b.create(metadata={"a": "b"}, envVars={"X": "1"}, allow_internet_access=False, something={"new": 1})
    token = made.pop("envdAccessToken")
    id = made.pop("sandboxID")
    assert made == {
        "templateID": "t-base",
        "clientID": "atoll",
        "alias": "base",
        "envdVersion": "0.6.13",
        "domain": "sandbox.test",
    }
    launch = e2b.api.world.node.launches[0]
    assert (launch.agent_token, launch.envs, launch.network) == (token, {"X": "1"}, NetworkPolicy(internet=False))
    detail = (await e2b.http.get(f"/sandboxes/{id}")).json()
    assert lives_s(detail, e2b) == pytest.approx(300)
    assert detail["envdAccessToken"] == token
    assert {name: detail[name] for name in ("state", "cpuCount", "memoryMB", "diskSizeMB", "metadata")} == {
        "state": "running",
        "cpuCount": 1,
        "memoryMB": 512,
        "diskSizeMB": 10240,
        "metadata": {"a": "b"},
    }
    assert detail["allowInternetAccess"] is False
    assert detail["lifecycle"] == {"autoResume": False, "onTimeout": "kill"}
    assert detail["network"] == {"allowPublicTraffic": True}


@pytest.mark.parametrize(("body", "secure"), [({}, False), ({"secure": False}, False), ({"secure": True}, True)])
async def test_the_first_form_is_open_unless_secure_and_lives_15_seconds(
    e2b: E2b, body: dict[str, Any], secure: bool
) -> None:
    made = await e2b.create("/sandboxes", **body)
    assert ("envdAccessToken" in made) is secure
    detail = (await e2b.http.get(f"/sandboxes/{made['sandboxID']}")).json()
    assert ("envdAccessToken" in detail) is secure
    assert lives_s(detail, e2b) == pytest.approx(15)
    endpoint = e2b.api.world.sandboxes.endpoint(SandboxId(made["sandboxID"]))
    assert endpoint is not None and endpoint.secure is secure


async def test_closed_ports_have_a_token(e2b: E2b) -> None:
    network = {"allowPublicTraffic": False, "maskRequestHost": "localhost:${PORT}", "denyOut": ["8.8.8.8"]}
    made = await e2b.create(network=network)
    assert len(made["trafficAccessToken"]) > 40
    detail = (await e2b.http.get(f"/sandboxes/{made['sandboxID']}")).json()
    assert detail["network"] == network
    assert (await e2b.error("POST", "/sandboxes", json={"templateID": "base", "network": network}))[0] == 400


@pytest.mark.parametrize("form", ["/sandboxes", "/v2/sandboxes"])
@pytest.mark.parametrize(("asked", "given"), [(0, 1), (-5, 1), (3, 3), (86_400, 86_400)])
async def test_timeouts(e2b: E2b, form: str, asked: int, given: int) -> None:
    made = await e2b.create(form, timeout=asked)
    assert lives_s((await e2b.http.get(f"/sandboxes/{made['sandboxID']}")).json(), e2b) == pytest.approx(given)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sandboxes", {"templateID": "base", "timeout": 86_401}),
        ("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 86_401}),
        ("POST", "/sandboxes/{id}/timeout", {"timeout": 86_401}),
        ("POST", "/sandboxes/{id}/connect", {"timeout": 86_401}),
        ("POST", "/v2/sandboxes/{id}/connect", {"timeout": 86_401}),
        ("POST", "/sandboxes/{id}/refreshes", {"duration": 86_401}),
    ],
)
async def test_timeouts_are_bounded(e2b: E2b, method: str, path: str, body: dict[str, Any]) -> None:
    id = (await e2b.create())["sandboxID"]
    told = await e2b.error(method, path.replace("{id}", id), json=body)
    assert told == (400, "Timeout cannot be greater than 24 hours")


async def test_the_end_is_moved(e2b: E2b) -> None:
    id = (await e2b.create(timeout=100))["sandboxID"]

    async def after(path: str, body: dict[str, int] | None, status: int) -> float:
        response = await e2b.http.post(f"{path}".replace("{id}", id), json=body)
        assert response.status_code == status, response.text
        if status == 200:
            assert response.json()["sandboxID"] == id
        return lives_s((await e2b.http.get(f"/sandboxes/{id}")).json(), e2b)

    for form in ("/sandboxes/{id}/connect", "/v2/sandboxes/{id}/connect"):
        assert await after(form, {"timeout": 50}, 200) == pytest.approx(100)
    assert await after("/sandboxes/{id}/timeout", {"timeout": 10}, 204) == pytest.approx(10)
    assert await after("/sandboxes/{id}/refreshes", {"duration": 5}, 204) == pytest.approx(10)
    assert await after("/sandboxes/{id}/refreshes", None, 204) == pytest.approx(15)
    assert await after("/sandboxes/{id}/refreshes", {"duration": 40}, 204) == pytest.approx(40)
    assert await after("/v2/sandboxes/{id}/connect", {}, 200) == pytest.approx(300)
    assert await after("/v2/sandboxes/{id}/connect", {"timeout": 400}, 200) == pytest.approx(400)


async def test_a_timeout_that_is_over_ends_the_sandbox(e2b: E2b) -> None:
    id = (await e2b.create(timeout=3))["sandboxID"]
    await e2b.api.world.clock.advance(3.5)
    await e2b.api.world.ended(SandboxId(id))
    assert (await e2b.error("GET", f"/sandboxes/{id}"))[0] == 404


async def test_kill(e2b: E2b) -> None:
    id = (await e2b.create())["sandboxID"]
    killed = await e2b.http.delete(f"/sandboxes/{id}")
    assert (killed.status_code, killed.content) == (204, b"")
    assert (await e2b.error("DELETE", f"/sandboxes/{id}"))[0] == 404


async def test_ids_with_the_client_id_that_old_sdks_append(e2b: E2b) -> None:
    id = (await e2b.create())["sandboxID"]
    assert (await e2b.http.get(f"/sandboxes/{id}-atoll")).status_code == 200


OF_ONE = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("POST", "/timeout", {"timeout": 5}),
    ("POST", "/refreshes", {"duration": 5}),
    ("POST", "/connect", {"timeout": 5}),
    ("POST", "/resume", {"timeout": 5}),
    ("POST", "/pause", {}),
    ("POST", "/fork", {}),
    ("POST", "/snapshots", {}),
    ("PUT", "/network", {}),
    ("GET", "/metrics", None),
    ("GET", "/logs", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OF_ONE)
async def test_sandboxes_that_are_not_there_for_the_caller(
    whole: E2b, method: str, path: str, body: dict[str, Any] | None
) -> None:
    other = await SqlProjects(whole.api.world.database).ensure(Project(new_project_id(), "other"), 0.0)
    _, secret = await whole.api.world.keys.create(other.id, "theirs")
    id = (await whole.create())["sandboxID"]
    theirs = {"x-api-key": secret}
    assert (await whole.error(method, f"/sandboxes/{id}{path}", json=body, headers=theirs))[0] == 404
    assert (await whole.error(method, f"/sandboxes/{NOBODY}{path}", json=body))[0] == 404
    assert (await whole.error(method, f"/sandboxes/short{path}", json=body))[0] == 404
    for bad in ("Not_An_Id", "%2e%2e", "a" * 65):
        assert await whole.error(method, f"/sandboxes/{bad}{path}", json=body) == (400, "Invalid sandbox ID")


@pytest.mark.parametrize("key", ["", "e2b_" + "0" * 40, "nonsense"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/sandboxes"), ("POST", "/v2/sandboxes"), ("GET", "/teams"), ("GET", "/templates"), ("GET", "/volumes")],
)
async def test_a_key_is_needed(e2b: E2b, method: str, path: str, key: str) -> None:
    body = {"templateID": "base"} if method == "POST" else None
    assert (await e2b.error(method, path, json=body, headers={"x-api-key": key}))[0] == 401


async def test_a_key_may_come_as_bearer(e2b: E2b) -> None:
    headers = {"x-api-key": "", "authorization": f"Bearer {e2b.http.headers['x-api-key']}"}
    assert (await e2b.http.get("/v2/sandboxes", headers=headers)).status_code == 200


async def test_an_idempotency_key(e2b: E2b) -> None:
    async def post(key: str, **body: Any) -> Any:
        return await e2b.http.post(
            "/v2/sandboxes", json={"templateID": "base", **body}, headers={"idempotency-key": key}
        )

    first, second = await post("k-1"), await post("k-1")
    assert first.status_code == 201 and second.json() == first.json()
    other = await post("k-1", timeout=7)
    assert other.status_code == 409 and other.json()["error_code"] == "idempotency_request_mismatch"
    assert (await post("k-2")).json()["sandboxID"] != first.json()["sandboxID"]
    assert (await post("a b")).status_code == (await post("x" * 256)).status_code == 400


async def test_the_network_is_replaced_as_a_whole(e2b: E2b) -> None:
    made = await e2b.create(network={"allowPublicTraffic": False, "denyOut": ["1.1.1.1"]})
    path = f"/sandboxes/{made['sandboxID']}"

    async def put(**body: Any) -> NetworkPolicy:
        response = await e2b.http.put(f"{path}/network", json=body)
        assert (response.status_code, response.content) == (204, b"")
        return e2b.api.world.node.machine.sandboxes[SandboxId(made["sandboxID"])].network

    closed = NetworkPolicy(allow_public_traffic=False)
    assert await put(allowOut=["8.8.8.8"], denyOut=["0.0.0.0/0"]) == NetworkPolicy(
        allow_out=("8.8.8.8",), deny_out=("0.0.0.0/0",), allow_public_traffic=False
    )
    assert await put(allow_internet_access=False) == NetworkPolicy(internet=False, allow_public_traffic=False)
    assert await put() == closed
    assert await e2b.error("PUT", f"{path}/network", json={"denyOut": ["x.y"]}) == (400, "invalid denied CIDR x.y")
    assert (await e2b.error("PUT", f"{path}/network", json={"rules": {"a.b": []}}))[0] == 501


async def test_no_room_is_told_to_be_tried_again(e2b: E2b) -> None:
    e2b.api.world.node.max_sandboxes = 0
    response = await e2b.http.post("/v2/sandboxes", json={"templateID": "base"})
    assert response.status_code == 503 and response.json()["error_code"] == "sandbox_capacity_unavailable"
    assert (response.headers["should-retry"], response.headers["retry-after"]) == ("true", "1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"templateID": ""}',
        b'{"templateID": "base", "timeout": "soon"}',
        b'{"templateID": "base", "timeout": 1e30}',
        b'{"templateID": "base", "metadata": {"a": 1}}',
        b'{"templateID": "base", "envVars": {"1A": "x"}}',
        b'{"templateID": "base", "network": 7}',
    ],
)
async def test_bad_bodies(e2b: E2b, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert (await e2b.error("POST", "/v2/sandboxes", content=body, headers=headers))[0] == 400
    assert e2b.api.world.node.launches == []


async def test_nulls_are_as_good_as_nothing(e2b: E2b) -> None:
    names = ("metadata", "envVars", "network", "mcp", "iam", "volumeMounts", "autoResume", "autoPause", "timeout")
    nothing: dict[str, Any] = dict.fromkeys(names)
    made = await e2b.create("/v2/sandboxes", **nothing)
    assert lives_s((await e2b.http.get(f"/sandboxes/{made['sandboxID']}")).json(), e2b) == pytest.approx(300)
