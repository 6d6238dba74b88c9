"""Pauses, snapshots and forks through the whole control plane."""

from __future__ import annotations

from typing import Any

import pytest

from atolld.control.testing import until
from atolld.core.lifecycle import SandboxState
from atolld.foundation.ids import SandboxId

from .conftest import E2b


async def info(e2b: E2b, id: str) -> dict[str, Any]:
    detail: dict[str, Any] = (await e2b.http.get(f"/sandboxes/{id}")).json()
    return detail


async def listed(e2b: E2b, query: str = "") -> list[str]:
    response = await e2b.http.get(f"/v2/sandboxes?{query}")
    assert response.status_code == 200, response.text
    return [one["sandboxID"] for one in response.json()]


async def post(e2b: E2b, path: str, status: int, **body: Any) -> Any:
    response = await e2b.http.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


@pytest.mark.parametrize(("memory", "mode"), [(True, "full"), (False, "filesystem")])
async def test_paused_and_connected(whole: E2b, memory: bool, mode: str) -> None:
    made = await whole.create(timeout=100)
    id = made["sandboxID"]
    await post(whole, f"/sandboxes/{id}/pause", 204, memory=memory)
    assert (await whole.error("POST", f"/sandboxes/{id}/pause"))[0] == 409
    detail = await info(whole, id)
    assert (detail["state"], detail["pauseMode"]) == ("paused", mode)
    assert (await whole.error("POST", f"/sandboxes/{id}/timeout", json={"timeout": 9}))[0] == 404
    # It has no end while it is paused.
    await whole.api.world.clock.advance(1000)
    back = await post(whole, f"/v2/sandboxes/{id}/connect", 201, timeout=50)
    assert (back["sandboxID"], back["envdAccessToken"]) == (id, made["envdAccessToken"])
    await post(whole, f"/sandboxes/{id}/connect", 200, timeout=20)
    assert (await whole.error("POST", f"/sandboxes/{id}/resume", json={}))[0] == 409
    detail = await info(whole, id)
    assert detail["state"] == "running" and "pauseMode" not in detail
    await whole.api.world.clock.advance(51)
    await whole.api.world.ended(SandboxId(id))


async def test_resumed_in_the_former_form(whole: E2b) -> None:
    id = (await whole.create())["sandboxID"]
    await post(whole, f"/sandboxes/{id}/pause", 204)
    await post(whole, f"/sandboxes/{id}/resume", 201, timeout=40, autoPause=True)
    assert (await info(whole, id))["lifecycle"]["onTimeout"] == "pause"


async def test_lists_by_state(whole: E2b) -> None:
    ids = []
    for _ in range(4):
        ids.append((await whole.create())["sandboxID"])
        await whole.api.world.clock.advance(1)
    for id in ids[::2]:
        await post(whole, f"/sandboxes/{id}/pause", 204)
    assert await listed(whole) == await listed(whole, "state=running,paused") == ids[::-1]
    assert await listed(whole, "state=running") == [ids[3], ids[1]]
    assert await listed(whole, "state=paused") == [ids[2], ids[0]]
    first = await whole.http.get("/v2/sandboxes?state=paused,running&limit=3")
    assert first.headers["x-total-running"] == "2"
    token = first.headers["x-next-token"]
    rest = await whole.http.get("/v2/sandboxes", params={"state": "paused,running", "nextToken": token})
    assert [one["state"] for one in first.json() + rest.json()] == ["running", "paused", "running", "paused"]
    assert [one["sandboxID"] for one in (await whole.http.get("/sandboxes")).json()] == [ids[3], ids[1]]


async def test_a_paused_one_is_killed(whole: E2b) -> None:
    id = (await whole.create())["sandboxID"]
    await post(whole, f"/sandboxes/{id}/pause", 204)
    assert (await whole.http.get(f"/sandboxes/{id}/metrics")).status_code == 200
    assert (await whole.http.delete(f"/sandboxes/{id}")).status_code == 204
    assert await listed(whole) == []
    assert (await whole.error("POST", f"/sandboxes/{id}/connect"))[0] == 404


async def test_paused_at_the_end_of_its_time(whole: E2b) -> None:
    id = (await whole.create(timeout=3, autoPause=True, autoPauseMemory=False))["sandboxID"]
    await whole.api.world.clock.advance(4)
    sandboxes = whole.api.world.sandboxes
    await until(lambda: sandboxes.counts() == {(SandboxState.PAUSED, "fake"): 1})
    assert (await info(whole, id))["pauseMode"] == "filesystem"


async def test_snapshots(whole: E2b) -> None:
    source = (await whole.create(timeout=100))["sandboxID"]
    plain = await post(whole, f"/sandboxes/{source}/snapshots", 201)
    assert plain["names"] == [] and plain["snapshotID"].endswith(":default")
    named = {"snapshotID": "default/data:v1", "names": ["default/data:v1"]}
    assert await post(whole, f"/sandboxes/{source}/snapshots", 201, name="data:v1", memory=False) == named
    await whole.http.delete(f"/sandboxes/{source}")
    first = await whole.http.get("/snapshots?limit=1")
    rest = await whole.http.get("/snapshots", params={"nextToken": first.headers["x-next-token"]})
    found = [one["snapshotID"] for one in first.json() + rest.json()]
    assert sorted(found) == sorted([plain["snapshotID"], "default/data:v1"])
    assert (await whole.http.get(f"/snapshots?sandboxID={source}&name=data:v1")).json() == [named]
    for id in (plain["snapshotID"], "data:v1", "default/data:v1"):
        made = await whole.create(templateID=id, timeout=70)
        assert made["sandboxID"] != source
    for id in (plain["snapshotID"], "default%2Fdata%3Av1"):
        assert (await whole.http.delete(f"/templates/{id}")).status_code == 204
        assert (await whole.error("DELETE", f"/templates/{id}"))[0] == 404
    assert (await whole.http.get("/snapshots")).json() == []
    assert (await whole.error("POST", "/v2/sandboxes", json={"templateID": plain["snapshotID"]}))[0] == 404


async def test_the_save_of_a_pause_is_nobodys_template(whole: E2b) -> None:
    id = (await whole.create())["sandboxID"]
    await post(whole, f"/sandboxes/{id}/pause", 204)
    save_id = (await whole.api.world.row(SandboxId(id))).save_id
    assert save_id is not None
    assert (await whole.http.get("/snapshots")).json() == []
    assert (await whole.error("POST", "/v2/sandboxes", json={"templateID": save_id}))[0] == 404
    assert (await whole.error("DELETE", f"/templates/{save_id}"))[0] == 404


async def test_forks(whole: E2b) -> None:
    source = await whole.create(metadata={"a": "b"})
    entries = await post(whole, f"/sandboxes/{source['sandboxID']}/fork", 201, count=3, timeout=30)
    forks = [entry["sandbox"] for entry in entries]
    assert len({one["sandboxID"] for one in [source, *forks]}) == 4
    assert len({one["envdAccessToken"] for one in [source, *forks]}) == 4
    assert [(await info(whole, one["sandboxID"]))["metadata"] for one in forks] == [{"a": "b"}] * 3
    assert (await whole.http.get("/snapshots")).json() == []
    await post(whole, f"/sandboxes/{source['sandboxID']}/pause", 204)
    assert (await whole.error("POST", f"/sandboxes/{source['sandboxID']}/fork"))[0] == 409
