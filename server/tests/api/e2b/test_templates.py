from __future__ import annotations

import uuid

import pytest

from .conftest import E2b


@pytest.mark.parametrize("path", ["/templates", "/v2/templates", "/default-templates", "/templates?teamID=x"])
async def test_lists(e2b: E2b, path: str) -> None:
    base, other = (await e2b.http.get(path)).json()
    assert (base["aliases"], other["names"]) == (["base"], ["other"])
    assert base["templateID"] == "t-base" and base["buildStatus"] == "ready" and base["envdVersion"] == "0.6.13"
    assert (base["cpuCount"], base["memoryMB"], base["diskSizeMB"]) == (1, 512, 10240)
    assert uuid.UUID(base["buildID"]) != uuid.UUID(other["buildID"])
    # Clients read these even when there is nothing in them.
    assert base["createdBy"] is None and base["lastSpawnedAt"] is None


@pytest.mark.parametrize(
    "name",
    ["base", "t-base", "BASE", "base:default", "default/base", "default%2Fbase", "default%2Fbase%3Adefault"],
)
async def test_names_of_one(e2b: E2b, name: str) -> None:
    encoded = name.replace("/", "%2F")
    found = (await e2b.http.get(f"/templates/{encoded}")).json()
    assert found["templateID"] == "t-base"
    assert [build["buildID"] for build in found["builds"]] == [found["buildID"]]
    assert (await e2b.http.get(f"/templates/aliases/{encoded}")).json() == {"templateID": "t-base", "public": True}


@pytest.mark.parametrize("name", ["nope", "base:v1", "elsewhere%2Fbase", "default%2Fnope", "%2F", "base%252F"])
async def test_names_of_none(e2b: E2b, name: str) -> None:
    for path in ("/templates/aliases/", "/templates/"):
        assert (await e2b.error("GET", path + name))[0] == 404


@pytest.mark.parametrize("name", ["nope", "base:v1", "code-interpreter-v1"])
async def test_a_sandbox_from_none(e2b: E2b, name: str) -> None:
    status, message = await e2b.error("POST", "/v2/sandboxes", json={"templateID": name})
    assert status == 404 and message == f"template '{name}' not found (known: base, other)"


@pytest.mark.parametrize("name", ["other", "t-other", "default/other", "other:default"])
async def test_a_sandbox_from_any_name(e2b: E2b, name: str) -> None:
    made = await e2b.create(templateID=name)
    assert (made["templateID"], made["alias"]) == ("t-other", "other")
