from __future__ import annotations

import pytest

from ..conftest import Api  # noqa: TID252
from ..fakes import SNAPSHOT  # noqa: TID252


async def test_the_life_of_a_pool(api: Api) -> None:
    made = (await api.http.put("/v1/pools", json={"template": "base", "ready": 4, "memory_mib": 1024})).json()
    assert made == {
        "id": "p" + "0" * 19,
        "template": "base",
        "runtime": "gvisor",
        "cpu": 1.0,
        "memory_mib": 1024,
        "disk_mib": 10240,
        "pids_max": 1024,
        "ready": 4,
        "warm": 1,
        "starting": 2,
        "claims": 3,
        "misses": 4,
        "message": "no room",
        "created_at": "1970-01-01T00:00:01.000Z",
    }
    path = f"/v1/pools/{made['id']}"
    assert (await api.http.get(path)).json() == made
    assert (await api.http.get("/v1/pools")).json() == {"items": [made]}
    assert (await api.http.delete(path)).status_code == 204
    assert (await api.error("GET", path))[:2] == (404, "not_found")


async def test_a_pool_of_a_snapshot_has_its_bounds(api: Api) -> None:
    api.snapshots.all.append(SNAPSHOT)
    made = (await api.http.put("/v1/pools", json={"template": SNAPSHOT.id, "ready": 1})).json()
    assert (made["template"], made["runtime"], made["memory_mib"]) == (SNAPSHOT.id, "fake", 256)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"template": "base"},
        {"ready": 1},
        {"template": "base", "ready": -1},
        {"template": "base", "ready": 1001},
        {"template": "base", "ready": "1"},
        {"template": "base", "ready": 1, "cpu": 0},
        {"template": "A", "ready": 1},
        {"template": "base", "ready": 1, "x": 1},
    ],
)
async def test_bad_pools(api: Api, body: dict[str, object]) -> None:
    assert (await api.error("PUT", "/v1/pools", json=body))[:2] == (400, "invalid_argument")


@pytest.mark.parametrize("id", ["x", "P" + "0" * 19, "..%2Fkeys", "p" * 500])
async def test_no_such_pool(api: Api, id: str) -> None:
    assert (await api.error("DELETE", f"/v1/pools/{id}"))[:2] == (404, "not_found")
