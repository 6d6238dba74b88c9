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


async def listed(e2b: E2b, path: str = "/v2/templates") -> list[str]:
    return [one["names"][0] for one in (await e2b.http.get(path)).json()]


async def test_templates_of_the_project_come_first(e2b: E2b) -> None:
    build = await e2b.api.world.build("app", "v1")
    for path in ("/templates", "/v2/templates"):
        mine, *_ = (await e2b.http.get(path)).json()
        assert await listed(e2b, path) == ["default/app", "base", "other"]
        assert (mine["templateID"], mine["buildID"], mine["aliases"]) == (build.template_id, build.id, ["app"])
        assert (mine["public"], mine["isDefault"], mine["buildStatus"], mine["buildCount"]) == (
            False,
            False,
            "ready",
            1,
        )
    assert await listed(e2b, "/default-templates") == ["base", "other"]


async def test_pages(e2b: E2b) -> None:
    for name in ("a", "b", "c"):
        e2b.api.world.clock._now += 1
        await e2b.api.world.build(name)
    names: list[str] = []
    token = None
    for _ in range(10):
        response = await e2b.http.get("/v2/templates", params={"limit": 2} | ({"nextToken": token} if token else {}))
        names += [one["aliases"][0] for one in response.json()]
        token = response.headers.get("x-next-token")
        if token is None:
            break
        assert len(response.json()) == 2
    assert names == ["c", "b", "a", "base", "other"]
    for bad in ("x", "own-x", "own-"):
        assert (await e2b.error("GET", "/v2/templates", params={"nextToken": bad}))[0] == 400


async def test_one_with_its_builds(e2b: E2b) -> None:
    first = await e2b.api.world.build("app")
    e2b.api.world.clock._now += 1
    waiting = await e2b.http.post("/v3/templates", json={"name": "app:v2", "memoryMB": 1024})
    for name in ("app", "APP:v2", first.template_id, "default%2Fapp"):
        found = (await e2b.http.get(f"/templates/{name}")).json()
        assert (found["buildID"], found["buildStatus"], found["buildCount"]) == (first.id, "waiting", 2)
        newest, oldest = found["builds"]
        assert (newest["buildID"], newest["status"], newest["finishedAt"], newest["memoryMB"]) == (
            waiting.json()["buildID"], "waiting", None, 1024,
        )  # fmt: skip
        assert (oldest["buildID"], oldest["status"]) == (first.id, "ready") and oldest["finishedAt"]
    page = await e2b.http.get("/templates/app?limit=1")
    assert len(page.json()["builds"]) == 1
    rest = await e2b.http.get("/templates/app", params={"nextToken": page.headers["x-next-token"]})
    assert [build["buildID"] for build in rest.json()["builds"]] == [first.id]


async def test_a_name_is_taken_before_its_first_build_is_ready(e2b: E2b) -> None:
    made = (await e2b.http.post("/v3/templates", json={"name": "app"})).json()
    alias = (await e2b.http.get("/templates/aliases/app")).json()
    assert alias == {"templateID": made["templateID"], "public": False}
    status, message = await e2b.error("POST", "/v2/sandboxes", json={"templateID": "app"})
    assert status == 404 and message == "template 'app' not found: no build of template 'app' is ready yet"


@pytest.mark.parametrize(
    "name", ["app", "App:default", "default/app", "app:v1", "{template}", "{template}:v1", "{build}"]
)
async def test_a_sandbox_from_one_of_the_project(e2b: E2b, name: str) -> None:
    build = await e2b.api.world.build("app", "v1", "default")
    made = await e2b.create(templateID=name.format(template=build.template_id, build=build.id))
    assert (made["templateID"], made["alias"]) == (build.template_id, "app")
    assert (await e2b.error("POST", "/v2/sandboxes", json={"templateID": "app:v2"})) == (
        404, "template 'app:v2' not found: template 'app' has no tag 'v2' (it has: default, v1)",
    )  # fmt: skip


async def test_publishing(e2b: E2b) -> None:
    world = e2b.api.world
    theirs = await e2b.key_of_another()
    build = await world.build("app")
    assert (await e2b.error("POST", "/v2/sandboxes", json={"templateID": "default/app"}, headers=theirs))[0] == 404
    assert (await e2b.error("GET", "/templates/aliases/default%2Fapp", headers=theirs))[0] == 404
    response = await e2b.http.patch("/v2/templates/app", json={"public": True})
    assert response.json() == {"names": ["default/app"]}
    made = await e2b.http.post("/v2/sandboxes", json={"templateID": "default/app"}, headers=theirs)
    assert made.status_code == 201 and made.json()["templateID"] == build.template_id
    alias = await e2b.http.get("/templates/aliases/default%2Fapp", headers=theirs)
    assert alias.json() == {"templateID": build.template_id, "public": True}
    # It is not theirs to change.
    for name in ("default%2Fapp", build.template_id):
        for method, path in (("PATCH", "/v2/templates"), ("PATCH", "/templates"), ("DELETE", "/templates")):
            body = {"public": False} if method == "PATCH" else None
            status, _ = await e2b.error(method, f"{path}/{name}", json=body, headers=theirs)
            assert status in (400, 404, 409)
    private = await e2b.http.patch("/templates/app", json={"public": False})
    assert (private.status_code, private.json()) == (200, {})
    assert (await e2b.error("POST", "/v2/sandboxes", json={"templateID": "default/app"}, headers=theirs))[0] == 404


async def test_the_machines_own_cannot_be_changed(e2b: E2b) -> None:
    for path in ("/templates/base", "/v2/templates/base"):
        status, message = await e2b.error("PATCH", path, json={"public": False})
        assert status == 409 and "is not the project's own" in message
    assert (await e2b.error("PATCH", "/v2/templates/never", json={"public": True}))[0] == 404


@pytest.mark.parametrize("name", ["app", "default%2Fapp", "default/app", "APP", "{template}"])
async def test_deleting(e2b: E2b, whole: E2b, name: str) -> None:
    build = await e2b.api.world.build("app", "v1")
    path = f"/templates/{name.format(template=build.template_id)}"
    response = await e2b.http.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert await listed(e2b) == ["base", "other"]
    assert (await e2b.error("DELETE", path))[0] == 404
    assert (await e2b.error("POST", "/v2/sandboxes", json={"templateID": "app:v1"}))[0] == 404
