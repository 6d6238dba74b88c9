"""States, snapshots and pools through the routes and control together, on a fake node."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from atolld.api.app import create_app

from ..conftest import Api  # noqa: TID252


@dataclass
class Whole:
    """The API over the use cases themselves."""

    http: httpx.AsyncClient

    async def ask(self, method: str, path: str, **body: object) -> Any:
        """The answer's body; the error's code, with its state if it tells one, for a refusal."""
        response = await self.http.request(method, path, json=body or None)
        if response.status_code == 204:
            return None
        answer = response.json()
        if response.is_success:
            return answer
        return (answer["error"]["code"], answer["error"].get("details", {}).get("state"))

    async def create(self, **body: object) -> Any:
        return await self.ask("POST", "/v1/sandboxes", **{"runtime": "fake", **body})


@pytest.fixture
async def whole(api: Api) -> AsyncIterator[Whole]:
    control = api.world.sandboxes
    app = create_app(dataclasses.replace(api.services, snapshots=control.snapshots, pools=control.pools))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=api.http.headers) as http:
        yield Whole(http)


async def test_pause_and_back(whole: Whole) -> None:
    path = f"/v1/sandboxes/{(await whole.create())['id']}"
    paused = await whole.ask("POST", f"{path}/pause")
    assert (paused["state"], paused["paused_at"] is not None) == ("paused", True)
    assert await whole.ask("POST", f"{path}/pause") == ("failed_precondition", "paused")
    assert (await whole.ask("GET", path))["state"] == "paused"
    assert [one["state"] for one in (await whole.ask("GET", "/v1/sandboxes"))["items"]] == ["paused"]
    assert (await whole.ask("POST", f"{path}/resume"))["state"] == "running"
    assert await whole.ask("POST", f"{path}/resume") == ("failed_precondition", "running")
    await whole.ask("POST", f"{path}/pause")
    assert (await whole.ask("POST", f"{path}/connect"))["state"] == "running"
    assert (await whole.ask("POST", f"{path}/connect", timeout_s=900))["state"] == "running"
    for _ in range(2):
        assert (await whole.ask("POST", f"{path}/freeze"))["state"] == "frozen"
    assert (await whole.ask("POST", f"{path}/connect"))["state"] == "running"


async def test_snapshots_forks_and_the_way_back(whole: Whole) -> None:
    made = await whole.create(memory_mib=256)
    path = f"/v1/sandboxes/{made['id']}"
    kept = await whole.ask("POST", f"{path}/snapshots", name="team/box:v1")
    assert (kept["name"], kept["sandbox_id"], kept["memory_mib"]) == ("team/box:v1", made["id"], 256)
    for name in ("team/box:v1", kept["id"]):
        child = await whole.ask("POST", "/v1/sandboxes", template=name)
        assert (child["state"], child["memory_mib"], child["runtime"]) == ("running", 256, "fake")
    assert await whole.ask("POST", "/v1/sandboxes", template=kept["id"], memory_mib=512) == ("invalid_argument", None)
    forks = (await whole.ask("POST", f"{path}/fork", count=2))["items"]
    assert [one["sandbox"]["state"] for one in forks] == ["running", "running"]
    assert (await whole.ask("POST", f"{path}/rollback", snapshot="team/box:v1"))["head_id"] == kept["id"]
    tree = await whole.ask("GET", f"{path}/checkpoints")
    assert tree["head_id"] == kept["id"] and kept["id"] in [one["id"] for one in tree["items"]]
    assert [one["id"] for one in (await whole.ask("GET", "/v1/snapshots"))["items"]] == [kept["id"]]
    assert await whole.ask("DELETE", "/v1/snapshots/team%2Fbox%3Av1") is None
    assert await whole.ask("GET", f"/v1/snapshots/{kept['id']}") == ("not_found", None)
    assert await whole.ask("POST", "/v1/sandboxes", template="team/box:v1") == ("not_found", None)


async def test_a_pool_serves_creates(whole: Whole) -> None:
    assert (await whole.create())["from_pool"] is False
    pool = await whole.ask("PUT", "/v1/pools", template="base", runtime="fake", ready=1)
    for _ in range(1000):
        if (await whole.ask("GET", f"/v1/pools/{pool['id']}"))["warm"]:
            break
    assert (await whole.create(metadata={"a": "1"}))["from_pool"] is True
    assert (await whole.ask("GET", f"/v1/pools/{pool['id']}"))["claims"] == 1
    assert await whole.ask("DELETE", f"/v1/pools/{pool['id']}") is None
