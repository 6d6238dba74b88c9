"""Templates over the API: lists, versions, tags, who may use them."""

from __future__ import annotations

from typing import Any

import pytest

from atolld.core.project import Project
from atolld.foundation.ids import new_project_id
from atolld.storage.projects import SqlProjects

from ..conftest import Api  # noqa: TID252
from .test_builds import STEPS, ended, requested


async def built(api: Api, name: str = "app", **body: Any) -> str:
    """The id of a new build that is ready."""
    # One after the other: lists and tags go by the time at which a build was asked for.
    await api.world.clock.advance(1)
    path = await requested(api, name=name, **body)
    assert (await api.http.post(path, json=STEPS)).status_code == 202
    build = await ended(api, path)
    assert build["state"] == "ready", build
    return str(build["id"])


async def test_the_machines_own_come_first_and_have_no_builds(api: Api) -> None:
    await built(api)
    items = (await api.http.get("/v1/templates")).json()["items"]
    assert [(one["name"], one["machine"]) for one in items] == [("base", True), ("other", True), ("app", False)]
    assert (items[0]["build"], items[0]["tags"]) == (None, [])
    assert (await api.http.get("/v1/templates/base")).json() == items[0]
    assert (await api.http.get("/v1/templates/app")).json() == items[2]
    assert (await api.http.get(f"/v1/templates/{items[2]['id']}")).json() == items[2]


async def test_what_is_said_of_a_template(api: Api) -> None:
    id = await built(api, cpu=2)
    told = (await api.http.get("/v1/templates/app")).json()
    assert (told["build"]["id"], told["cpu"], told["public"]) == (id, 2, False)
    assert [tag["tag"] for tag in told["tags"]] == ["default"]
    await requested(api, name="new")
    told = (await api.http.get("/v1/templates/new")).json()
    assert (told["size_bytes"], told["cpu"], told["tags"]) == (None, None, [])


async def test_pages(api: Api) -> None:
    for number in range(3):
        await requested(api, name=f"app{number}")
    first = (await api.http.get("/v1/templates?limit=2")).json()
    second = (await api.http.get(f"/v1/templates?limit=2&cursor={first['next_cursor']}")).json()
    names = [one["name"] for one in (*first["items"], *second["items"])]
    assert sorted(names) == ["app0", "app1", "app2", "base", "other"] and second["next_cursor"] is None
    assert (await api.error("GET", "/v1/templates?limit=0"))[0] == 400
    assert (await api.error("GET", "/v1/templates?cursor=x"))[0] == 400


async def test_versions_and_tags(api: Api) -> None:
    one, two = await built(api, tags=["v1"]), await built(api, tags=["v2", "default"])
    versions = (await api.http.get("/v1/templates/app/builds")).json()["items"]
    assert [version["id"] for version in versions] == [two, one]
    moved = await api.http.post("/v1/templates/app/tags", json={"tags": ["stable"], "build": "v1"})
    assert [(tag["tag"], tag["build_id"]) for tag in moved.json()["items"]] == [("stable", one)]
    plain = await api.http.post("/v1/templates/app/tags", json={"tags": ["latest"]})
    assert plain.json()["items"][0]["build_id"] == two
    tags = (await api.http.get("/v1/templates/app/tags")).json()["items"]
    assert {tag["tag"]: tag["build_id"] for tag in tags} == {
        "default": two,
        "latest": two,
        "stable": one,
        "v1": one,
        "v2": two,
    }
    assert (await api.error("DELETE", f"/v1/templates/app/versions/{one}"))[:2] == (409, "failed_precondition")
    gone = await api.http.request("DELETE", "/v1/templates/app/tags", json={"tags": ["stable", "v1"]})
    assert gone.status_code == 204
    assert (await api.http.delete(f"/v1/templates/app/versions/{one}")).status_code == 204
    assert (await api.error("DELETE", f"/v1/templates/app/versions/{one}"))[0] == 404
    assert (await api.error("DELETE", "/v1/templates/app/tags", json={"tags": ["v1"]}))[0] == 404


async def test_public_and_private(api: Api) -> None:
    await built(api)
    team = await SqlProjects(api.world.database).ensure(Project(new_project_id(), "team"), 1.0)
    _, secret = await api.world.keys.create(team.id, "theirs")
    theirs: dict[str, Any] = {"headers": {"x-api-key": secret}}
    path = f"/v1/templates/{api.world.project.name}%2Fapp"
    assert (await api.error("GET", path, **theirs))[0] == 404
    assert (await api.http.patch("/v1/templates/app", json={"public": True})).json()["public"] is True
    assert (await api.http.get(path, **theirs)).json()["name"] == "app"
    assert (await api.http.get(f"{path}/tags", **theirs)).status_code == 200
    for method, end, body in (
        ("PATCH", "", {"public": False}),
        ("DELETE", "", None),
        ("POST", "/tags", {"tags": ["mine"]}),
        ("DELETE", "/tags", {"tags": ["default"]}),
    ):
        assert (await api.error(method, path + end, json=body, **theirs))[0] == 404, (method, end)
    assert (await api.http.patch("/v1/templates/app", json={})).json()["public"] is True
    await api.http.patch("/v1/templates/app", json={"public": False})
    assert (await api.error("GET", path, **theirs))[0] == 404


async def test_deleted(api: Api) -> None:
    await built(api)
    assert (await api.http.delete("/v1/templates/app")).status_code == 204
    assert (await api.error("GET", "/v1/templates/app"))[0] == 404
    assert (await api.error("DELETE", "/v1/templates/app"))[0] == 404
    assert (await api.error("DELETE", "/v1/templates/base"))[0] == 404
    await built(api)


@pytest.mark.parametrize("name", ["..", "a..b", "A", "x%00y", "%2F", "a%2Fb%2Fc", "a%0Ab"])
async def test_names_that_are_none(api: Api, name: str) -> None:
    for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/builds"), ("GET", "/tags")):
        assert (await api.error(method, f"/v1/templates/{name}{end}"))[0] in (400, 404)
