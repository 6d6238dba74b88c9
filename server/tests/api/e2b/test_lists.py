from __future__ import annotations

import pytest

from .conftest import E2b


async def made(e2b: E2b, count: int = 5) -> list[str]:
    ids = []
    for number in range(count):
        made = await e2b.create(metadata={"n": str(number), "a b": "c&d=é"})
        ids.append(made["sandboxID"])
        await e2b.api.world.clock.advance(1)
    return ids


async def test_pages(e2b: E2b) -> None:
    ids = await made(e2b)
    first = await e2b.http.get("/v2/sandboxes", params={"limit": 2, "order": "asc"})
    assert [one["sandboxID"] for one in first.json()] == ids[:2]
    assert first.headers["x-total-running"] == "5"
    token = first.headers["x-next-token"]
    rest = await e2b.http.get("/v2/sandboxes", params={"order": "asc", "nextToken": token})
    assert [one["sandboxID"] for one in rest.json()] == ids[2:]
    assert "x-next-token" not in rest.headers


async def test_what_a_listed_sandbox_shows(e2b: E2b) -> None:
    (id,) = await made(e2b, 1)
    (one,) = (await e2b.http.get("/v2/sandboxes")).json()
    assert one.pop("startedAt") < one.pop("endAt")
    assert one == {
        "templateID": "t-base",
        "alias": "base",
        "sandboxID": id,
        "clientID": "atoll",
        "cpuCount": 1,
        "memoryMB": 512,
        "diskSizeMB": 10240,
        "metadata": {"n": "0", "a b": "c&d=é"},
        "state": "running",
        "envdVersion": "0.6.13",
        "volumeMounts": [],
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [4, 3, 2, 1, 0]),
        ("order=desc", [4, 3, 2, 1, 0]),
        ("order=asc", [0, 1, 2, 3, 4]),
        ("state=running", [4, 3, 2, 1, 0]),
        ("state=running,paused", [4, 3, 2, 1, 0]),
        ("state=paused&state=running", [4, 3, 2, 1, 0]),
        ("state=paused", []),
        ("template=base&limit=1", [4]),
        ("template=t-base&order=asc&limit=1", [0]),
        ("template=other", []),
        ("metadata=n%3D3", [3]),
        # Encoded as the SDKs do: key and value, the form, and the query.
        ("metadata=a%252520b%3Dc%252526d%25253D%2525C3%2525A9%26n%3D1", [1]),
        ("metadata=n%3D1%26n2%3D1", []),
    ],
)
async def test_filters(e2b: E2b, query: str, found: list[int]) -> None:
    ids = await made(e2b)
    response = await e2b.http.get(f"/v2/sandboxes?{query}")
    assert [ids.index(one["sandboxID"]) for one in response.json()] == found
    assert response.headers["x-total-running"] == "5"


async def test_started_at_that_time_or_after(e2b: E2b) -> None:
    ids = await made(e2b)
    middle = (await e2b.http.get(f"/sandboxes/{ids[2]}")).json()["startedAt"]
    response = await e2b.http.get("/v2/sandboxes", params={"startedAfter": middle})
    assert [one["sandboxID"] for one in response.json()] == ids[:1:-1]


async def test_the_first_form_gives_all_at_once(e2b: E2b) -> None:
    ids = await made(e2b, 3)
    assert [one["sandboxID"] for one in (await e2b.http.get("/sandboxes")).json()] == ids[::-1]
    response = await e2b.http.get("/sandboxes?metadata=n%3D1")
    assert [one["sandboxID"] for one in response.json()] == [ids[1]]


async def test_the_first_form_reads_on_past_a_page(e2b: E2b) -> None:
    for _ in range(101):
        await e2b.create()
    assert len((await e2b.http.get("/sandboxes")).json()) == 101


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "order=up",
        "state=dead",
        "nextToken=x",
        "startedAfter=soon",
        "metadata=nothing",
        "metadata=" + "%26".join(f"k{n}%3Dv" for n in range(65)),
    ],
)
async def test_bad_queries(e2b: E2b, query: str) -> None:
    assert (await e2b.error("GET", f"/v2/sandboxes?{query}"))[0] == 400
