from __future__ import annotations

from dataclasses import replace

import pytest

from atolld.core.snapshot import SaveKind
from atolld.foundation.ids import SnapshotId

from ..conftest import Api  # noqa: TID252
from ..fakes import SNAPSHOT  # noqa: TID252

ENCODED = "/v1/snapshots/team%2Fbox%3Av1"


async def test_a_snapshot_is_shown_without_its_token(api: Api) -> None:
    api.snapshots.all.append(SNAPSHOT)
    response = await api.http.get(f"/v1/snapshots/{SNAPSHOT.id}")
    assert response.json() == {
        "id": SNAPSHOT.id,
        "name": "team/box:v1",
        "sandbox_id": SNAPSHOT.sandbox_id,
        "parent_id": None,
        "role": "snapshot",
        "state": "ready",
        "kind": "memory",
        "template": "base",
        "runtime": "fake",
        "cpu": 2.0,
        "memory_mib": 256,
        "disk_mib": 1024,
        "pids_max": 64,
        "created_at": "1970-01-01T00:00:01.000Z",
        "size_bytes": 1024,
        "memory_bytes": 1000,
        "disk_bytes": 24,
        "engine": "fake 1",
        "stopped_ms": 12.346,
    }
    api.snapshots.all[0] = replace(SNAPSHOT, saved=None)
    unsaved = (await api.http.get(f"/v1/snapshots/{SNAPSHOT.id}")).json()
    assert (unsaved["size_bytes"], unsaved["engine"], unsaved["stopped_ms"]) == (0, None, None)


async def test_one_is_made(api: Api) -> None:
    id = (await api.create())["id"]
    path = f"/v1/sandboxes/{id}/snapshots"
    made = await api.http.post(path)
    named = await api.http.post(path, json={"name": "before-upgrade", "kind": "filesystem"})
    assert (made.status_code, made.json()["sandbox_id"], named.json()["name"]) == (201, id, "before-upgrade")
    assert api.snapshots.asked[-2:] == [
        ("create", id, None, SaveKind.MEMORY),
        ("create", id, "before-upgrade", SaveKind.FILESYSTEM),
    ]
    for bad in ({"kind": "x"}, {"name": 1}, {"x": 1}):
        assert (await api.error("POST", path, json=bad))[:2] == (400, "invalid_argument")


async def test_names_may_hold_slashes_and_tags(api: Api) -> None:
    api.snapshots.all += [SNAPSHOT, replace(SNAPSHOT, id=SnapshotId("s" + "2" * 19), name="a/diff")]
    assert (await api.http.get(ENCODED)).json()["id"] == SNAPSHOT.id
    assert (await api.http.get("/v1/snapshots/a%2Fdiff")).json()["id"] == "s" + "2" * 19
    assert (await api.http.get("/v1/snapshots/a/diff")).json()["complete"] is True
    assert (await api.http.delete(ENCODED)).status_code == 204
    assert api.snapshots.asked[-1] == ("delete", "team/box:v1")
    assert api.observed[-1][0] == "/v1/snapshots/{id}"


@pytest.mark.parametrize("name", ["A", "a%20b", "..%2F..%2Fetc", "a%2F%2Fb", "x" * 129, "%FF", "a%00"])
async def test_what_can_be_no_name_is_not_found(api: Api, name: str) -> None:
    assert (await api.error("GET", f"/v1/snapshots/{name}"))[:2] == (404, "not_found")
    assert api.snapshots.asked == []


async def test_a_page(api: Api) -> None:
    api.snapshots.all.append(SNAPSHOT)
    page = (await api.http.get("/v1/snapshots")).json()
    assert ([one["id"] for one in page["items"]], page["next_cursor"]) == ([SNAPSHOT.id], "next")
    params = {"sandbox": SNAPSHOT.sandbox_id, "name": "n", "limit": "5", "cursor": "c"}
    await api.http.get("/v1/snapshots", params=params)
    assert api.snapshots.asked == [("list", None, None, 100, None), ("list", SNAPSHOT.sandbox_id, "n", 5, "c")]
    for bad in ("limit=0", "limit=101", f"name={'x' * 129}"):
        assert (await api.error("GET", f"/v1/snapshots?{bad}"))[:2] == (400, "invalid_argument")


async def test_a_diff(api: Api) -> None:
    told = (await api.http.get(f"{ENCODED}/diff")).json()
    assert told == {
        "items": [
            {"path": "/a", "change": "added", "size_bytes": 5},
            {"path": "/b", "change": "removed", "size_bytes": 0},
        ],
        "complete": True,
    }
    cut = await api.http.get(f"{ENCODED}/diff", params={"against": "a/b:c", "limit": 2})
    assert cut.json()["complete"] is False
    assert api.snapshots.asked == [("diff", "team/box:v1", None, 1000), ("diff", "team/box:v1", "a/b:c", 2)]
    assert (await api.error("GET", f"{ENCODED}/diff?against=A"))[0] == 404


async def test_a_tree(api: Api) -> None:
    api.snapshots.all.append(SNAPSHOT)
    id = (await api.create())["id"]
    path = f"/v1/sandboxes/{id}/checkpoints"
    told = (await api.http.get(path)).json()
    assert ([one["id"] for one in told["items"]], told["head_id"]) == ([SNAPSHOT.id], None)
    await api.http.delete(f"/v1/sandboxes/{id}")
    assert len((await api.http.get(path)).json()["items"]) == 1


async def test_a_sandbox_from_a_snapshot_has_its_bounds(api: Api) -> None:
    api.snapshots.all.append(SNAPSHOT)
    body = {"template": "team/box:v1", "memory_mib": 512}
    status, code, message = await api.error("POST", "/v1/sandboxes", json=body)
    assert (status, code) == (400, "invalid_argument")
    assert "memory_mib is 512, but snapshot 'team/box:v1' was taken with 256" in message
