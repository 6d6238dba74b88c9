from __future__ import annotations

from typing import Any

import pytest

from atolld.control.snapshots import SnapshotPage
from atolld.core.snapshot import SaveKind

from .conftest import E2b, Play, snapshot

ONE, TWO = "s" + "1" * 19, "s" + "2" * 19
SOURCE, OTHER = "i" + "0" * 19, "i" + "1" * 19


@pytest.mark.parametrize(
    ("body", "name", "kind", "told"),
    [
        (None, None, SaveKind.MEMORY, {"snapshotID": f"{ONE}:default", "names": []}),
        ({"memory": True}, None, SaveKind.MEMORY, {"snapshotID": f"{ONE}:default", "names": []}),
        ({"memory": False}, None, SaveKind.FILESYSTEM, {"snapshotID": f"{ONE}:default", "names": []}),
        (
            {"name": "Data"},
            "data",
            SaveKind.MEMORY,
            {"snapshotID": "default/data:default", "names": ["default/data:default"]},
        ),
        (
            {"name": "default/data:v2"},
            "data:v2",
            SaveKind.MEMORY,
            {"snapshotID": "default/data:v2", "names": ["default/data:v2"]},
        ),
    ],
)
async def test_create(
    e2b: E2b, play: Play, body: dict[str, Any] | None, name: str | None, kind: SaveKind, told: dict[str, Any]
) -> None:
    id = (await e2b.create())["sandboxID"]
    create = play(e2b.api.services.snapshots, "create", snapshot(ONE, name))
    response = await e2b.http.post(f"/sandboxes/{id}/snapshots", json=body)
    assert (response.status_code, response.json()) == (201, told)
    assert create.calls == [(e2b.api.world.project.id, id, name, kind)]


@pytest.mark.parametrize("name", ["a b", "x:", "elsewhere/x", "base", "default/BASE:default", "x" * 256])
async def test_names_that_cannot_be_given(e2b: E2b, play: Play, name: str) -> None:
    id = (await e2b.create())["sandboxID"]
    create = play(e2b.api.services.snapshots, "create")
    assert (await e2b.error("POST", f"/sandboxes/{id}/snapshots", json={"name": name}))[0] == 400
    assert create.calls == []


async def test_pages(e2b: E2b, play: Play) -> None:
    listed = play(
        e2b.api.services.snapshots,
        "list",
        SnapshotPage([snapshot(TWO), snapshot(ONE, "data")], "more"),
        SnapshotPage([], None),
    )
    first = await e2b.http.get("/snapshots", params={"limit": 2})
    assert [one["snapshotID"] for one in first.json()] == [f"{TWO}:default", "default/data:default"]
    assert first.headers["x-next-token"] == "more"
    last = await e2b.http.get("/snapshots", params={"nextToken": "more", "sandboxID": SOURCE})
    assert last.json() == [] and "x-next-token" not in last.headers
    project = e2b.api.world.project.id
    assert listed.calls == [(project, None, 2, None), (project, SOURCE, 100, "more")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"name": "data"}, ["default/data:default"]),
        ({"name": "default/data:default"}, ["default/data:default"]),
        ({"name": f"{ONE}:default"}, ["default/data:default"]),
        ({"name": "data:v2"}, []),
        ({"name": TWO}, []),
        ({"name": "data", "sandboxID": SOURCE}, ["default/data:default"]),
        ({"name": "data", "sandboxID": OTHER}, []),
    ],
)
async def test_one_by_name(e2b: E2b, query: dict[str, str], found: list[str]) -> None:
    e2b.api.snapshots.all += [snapshot(ONE, "data")]
    response = await e2b.http.get("/snapshots", params=query)
    assert [one["snapshotID"] for one in response.json()] == found


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "sandboxID=NO", f"name={'x' * 256}"])
async def test_bad_queries(e2b: E2b, query: str) -> None:
    assert (await e2b.error("GET", f"/snapshots?{query}"))[0] == 400


@pytest.mark.parametrize(
    "id",
    [
        ONE,
        f"{ONE}%3Adefault",
        "data",
        "data:default",
        "default%2Fdata%3Adefault",
        # Clients of 2.21 leave the slash as it is.
        "default/data:default",
    ],
)
async def test_delete(e2b: E2b, play: Play, id: str) -> None:
    e2b.api.snapshots.all += [snapshot(ONE, "data")]
    delete = play(e2b.api.services.snapshots, "delete")
    response = await e2b.http.delete(f"/templates/{id}")
    assert (response.status_code, response.content) == (204, b"")
    assert delete.calls == [(e2b.api.world.project.id, ONE)]


@pytest.mark.parametrize(
    ("id", "status"),
    [("nope", 404), ("t%2Fx%3Adefault", 404), ("t/x", 404), (TWO, 404), ("base", 409), ("default%2Fbase", 409)],
)
async def test_what_cannot_be_deleted(e2b: E2b, play: Play, id: str, status: int) -> None:
    e2b.api.snapshots.all += [snapshot(ONE, "data")]
    delete = play(e2b.api.services.snapshots, "delete")
    assert (await e2b.error("DELETE", f"/templates/{id}"))[0] == status
    assert delete.calls == []


@pytest.mark.parametrize("text", [ONE, f"{ONE}:default", "data", "default/data:default"])
async def test_a_sandbox_from_one(e2b: E2b, play: Play, text: str) -> None:
    source = await e2b.create()
    world = e2b.api.world
    sandbox = await world.sandboxes.get(world.project.id, source["sandboxID"])
    kept = snapshot(ONE, "data", runtime="container")
    e2b.api.snapshots.all += [kept]
    create = play(e2b.api.services.sandboxes, "create", sandbox)
    response = await e2b.http.post("/v2/sandboxes", json={"templateID": text, "timeout": 60, "autoPause": True})
    assert response.status_code == 201
    spec = create.calls[0][1]
    assert (spec.template, spec.runtime, spec.resources) == (ONE, "container", kept.resources)


async def test_a_template_comes_before_a_snapshot(e2b: E2b, play: Play) -> None:
    e2b.api.snapshots.all += [snapshot(ONE, "base")]
    assert (await e2b.create(templateID="base"))["templateID"] == "t-base"
    assert e2b.api.world.node.launches[0].resources.memory_mib == 512
