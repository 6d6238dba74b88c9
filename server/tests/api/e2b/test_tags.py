from __future__ import annotations

from typing import Any

import pytest

from .conftest import E2b


async def tags(e2b: E2b, name: str = "app") -> dict[str, str]:
    return {tag["tag"]: tag["buildID"] for tag in (await e2b.http.get(f"/templates/{name}/tags")).json()}


async def assign(e2b: E2b, target: str, *tags: str) -> dict[str, Any]:
    response = await e2b.http.post("/templates/tags", json={"target": target, "tags": list(tags)})
    assert response.status_code == 201, response.text
    told: dict[str, Any] = response.json()
    return told


async def test_tags_mean_the_build_that_the_target_means(e2b: E2b) -> None:
    first = await e2b.api.world.build("app")
    second = await e2b.api.world.build("app", "v2")
    assert await assign(e2b, "app", "Stable", "stable", "v1") == {"tags": ["stable", "v1"], "buildID": first.id}
    assert await assign(e2b, "Default/APP:v2", "stable") == {"tags": ["stable"], "buildID": second.id}
    assert await assign(e2b, f"{first.template_id}:stable", "b") == {"tags": ["b"], "buildID": second.id}
    assert await tags(e2b) == {
        "b": second.id, "default": first.id, "stable": second.id, "v1": first.id, "v2": second.id,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["app", "APP", "default%2Fapp", "default/app", "app:v1"])
async def test_lists(e2b: E2b, name: str) -> None:
    build = await e2b.api.world.build("app", "v1")
    (tag,) = (await e2b.http.get(f"/templates/{name}/tags")).json()
    assert (tag["tag"], tag["buildID"]) == ("v1", build.id) and tag["createdAt"].endswith("Z")


async def test_removed_ones_mean_nothing(e2b: E2b) -> None:
    await e2b.api.world.build("app", "v1", "v2", "v3")

    async def remove(*tags: str) -> int:
        response = await e2b.http.request("DELETE", "/templates/tags", json={"name": "app", "tags": tags})
        return response.status_code

    assert await remove("V1", "v2") == 204
    assert [*await tags(e2b)] == ["v3"]
    # All or none.
    assert await remove("v3", "never") == 404
    assert [*await tags(e2b)] == ["v3"]


@pytest.mark.parametrize(
    ("target", "names", "code"),
    [
        (":v1", ["x"], 400),
        ("app:", ["x"], 400),
        ("a b", ["x"], 400),
        ("other/app", ["x"], 400),
        ("app:v1", [], 400),
        ("app:v1", ["a b"], 400),
        ("app:v1", [""], 400),
        ("app:v1", ["11111111-2222-3333-4444-555555555555"], 400),
        ("app:v1", ["x" * 200], 400),
        ("app:never", ["x"], 404),
        ("app", ["x"], 404),
        ("never:v1", ["x"], 404),
        ("base:default", ["x"], 404),
    ],
)
async def test_what_cannot_be_assigned(e2b: E2b, target: str, names: list[str], code: int) -> None:
    await e2b.api.world.build("app", "v1")
    assert (await e2b.error("POST", "/templates/tags", json={"target": target, "tags": names}))[0] == code
    assert [*await tags(e2b)] == ["v1"]


async def test_questions_about_tags(e2b: E2b) -> None:
    await e2b.api.world.build("app", "v1", "v2")
    assert (await e2b.http.get("/templates/app/tags/count")).json() == {"total": 2}
    found = (await e2b.http.get("/templates/app/tags/exists", params={"tag": " V1"})).json()
    assert found == {"exists": True, "normalizedTag": "v1"}
    assert (await e2b.http.get("/templates/app/tags/exists?tag=v3")).json()["exists"] is False
    assert (await e2b.error("GET", "/templates/app/tags/exists?tag=a%20b"))[0] == 400
    for path in ("", "/count", "/exists?tag=x", "/groups", "/x/assignments"):
        assert (await e2b.error("GET", f"/templates/never/tags{path}"))[0] == 404


async def test_what_a_tag_has_meant(e2b: E2b) -> None:
    world = e2b.api.world
    builds = [await world.build("app", "v1") for _ in range(3)]
    first = (await e2b.http.get("/templates/app/tags/v1/assignments?limit=2")).json()
    assert [one["buildID"] for one in first["data"]] == [builds[2].id, builds[1].id]
    rest = (await e2b.http.get("/templates/app/tags/V1/assignments", params={"cursor": first["nextCursor"]})).json()
    assert [one["buildID"] for one in rest["data"]] == [builds[0].id] and rest["nextCursor"] is None
    assert len({one["assignmentID"] for one in first["data"] + rest["data"]}) == 3
    assert (await e2b.error("GET", "/templates/app/tags/v1/assignments?cursor=x"))[0] == 400


async def test_groups(e2b: E2b) -> None:
    world = e2b.api.world
    for tag in ("b", "a", "c", "a"):
        world.clock._now += 1
        await world.build("app", tag)

    async def groups(**query: Any) -> tuple[list[str], Any]:
        told = (await e2b.http.get("/templates/app/tags/groups", params=query)).json()
        return [group["tag"] for group in told["tags"]], told["nextCursor"]

    assert await groups() == (["a", "c", "b"], None)
    assert await groups(sort="latest_asc") == (["b", "c", "a"], None)
    assert await groups(sort="name_asc", tagsLimit=2) == (["a", "b"], "b")
    assert await groups(sort="name_asc", tagsLimit=2, tagsCursor="b") == (["c"], None)
    assert await groups(search="C") == (["c"], None)
    told = (await e2b.http.get("/templates/app/tags/groups?assignmentLimit=1")).json()["tags"]
    assert [(len(group["assignments"]), group["hasMore"]) for group in told] == [(1, True), (1, False), (1, False)]
    assert (await e2b.error("GET", "/templates/app/tags/groups?tagsCursor=never"))[0] == 400
