from __future__ import annotations

import pytest

from .conftest import E2b


async def test_the_team_is_the_project_of_the_key(e2b: E2b) -> None:
    secret = e2b.http.headers["x-api-key"]
    expected = [
        {"teamID": e2b.api.world.project.id, "name": "default", "apiKey": secret, "isDefault": True},
    ]
    assert (await e2b.http.get("/teams")).json() == expected
    bearer = {"x-api-key": "", "authorization": f"Bearer {secret}"}
    assert (await e2b.http.get("/teams", headers=bearer)).json() == expected


async def test_keys_from_birth_to_end(e2b: E2b) -> None:
    response = await e2b.http.post("/api-keys", json={"name": "ci"})
    assert response.status_code == 201
    made = response.json()
    secret = made.pop("key")
    assert made["mask"] == {
        "prefix": "e2b_",
        "valueLength": 40,
        "maskedValuePrefix": secret[4:6],
        "maskedValueSuffix": "",
    }
    theirs = {"x-api-key": secret}
    assert (await e2b.http.get("/templates", headers=theirs)).status_code == 200
    path = f"/api-keys/{made['id']}"
    assert (await e2b.http.patch(path, json={"name": "build"})).status_code == 200
    listed = (await e2b.http.get("/api-keys")).json()
    assert {key["name"]: key["lastUsed"] is not None for key in listed} == {"test": True, "build": True}
    assert listed[0]["createdBy"] is None
    assert (await e2b.http.delete(path)).status_code == 204
    assert (await e2b.error("GET", "/templates", headers=theirs))[0] == 401
    assert [key["name"] for key in (await e2b.http.get("/api-keys")).json()] == ["test"]


@pytest.mark.parametrize("id", ["nope", "x" * 65])
async def test_keys_that_are_not_there(e2b: E2b, id: str) -> None:
    assert (await e2b.error("PATCH", f"/api-keys/{id}", json={"name": "x"}))[0] == 404
    assert (await e2b.error("DELETE", f"/api-keys/{id}"))[0] == 404


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", None])
async def test_bad_names(e2b: E2b, name: str | None) -> None:
    assert (await e2b.error("POST", "/api-keys", json={"name": name}))[0] == 400
