from __future__ import annotations

import pytest

from ..conftest import Api  # noqa: TID252


async def test_the_project_of_the_key(api: Api) -> None:
    await api.create(memory_mib=256)
    told = (await api.http.get("/v1/project")).json()
    assert told["name"] == "default" and told["running"] == 1
    assert set(told["limits"].values()) == {None}
    assert list(told["limits"]) == ["max_sandboxes", "max_cpu", "max_memory_mib", "max_snapshots", "max_saved_mib"]
    assert told["machine"]["sandboxes"] == 1 and told["machine"]["memory_taken_mib"] == 256


async def test_a_key_from_create_to_revoke(api: Api) -> None:
    await api.world.clock.advance(1)
    response = await api.http.post("/v1/keys", json={"name": "ci"})
    made = response.json()
    assert response.status_code == 201 and made["secret"].startswith(made["key"]["prefix"])
    header = {"x-api-key": made["secret"]}
    assert (await api.http.get("/v1/sandboxes", headers=header)).status_code == 200

    listed = await api.http.get("/v1/keys")
    assert [one["name"] for one in listed.json()["items"]] == ["test", "ci"]
    assert made["secret"] not in listed.text

    path = f"/v1/keys/{made['key']['id']}"
    assert (await api.http.delete(path)).status_code == 204
    assert (await api.error("GET", "/v1/sandboxes", headers=header))[:2] == (401, "unauthenticated")
    assert (await api.error("DELETE", path))[:2] == (404, "not_found")
    assert (await api.http.get("/v1/keys")).json()["items"][1]["revoked_at"] is not None


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 65}, {"name": 1}, {"name": "a\nb"}, {"name": "a", "x": 1}]
)
async def test_bad_keys(api: Api, body: dict[str, object]) -> None:
    assert (await api.error("POST", "/v1/keys", json=body))[:2] == (400, "invalid_argument")


async def test_a_key_id_of_any_length_is_not_found(api: Api) -> None:
    assert (await api.error("DELETE", f"/v1/keys/{'x' * 5000}"))[:2] == (404, "not_found")
