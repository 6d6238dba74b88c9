from __future__ import annotations

import json
from datetime import datetime

import pytest

from atolld.foundation.ids import SandboxId

from .conftest import E2b

LOG = b"\n".join(
    json.dumps({"timestamp": f"2026-01-01T00:00:0{n}Z", "level": level, "message": f"line {n}", "pid": n}).encode()
    for n, level in enumerate(("debug", "info", "warning", "error"))
)
START_MS = int(datetime.fromisoformat("2026-01-01T00:00:00Z").timestamp() * 1000)


async def test_metrics_of_one(e2b: E2b) -> None:
    path = f"/sandboxes/{(await e2b.create())['sandboxID']}/metrics"
    assert (await e2b.http.get(path)).json() == []
    await e2b.api.world.clock.advance(11)
    samples = (await e2b.http.get(path)).json()
    assert len(samples) >= 2 and samples[0]["memTotal"] == 512 * 1024 * 1024
    assert samples[0].keys() == {
        "timestamp",
        "timestampUnix",
        "cpuCount",
        "cpuUsedPct",
        "memUsed",
        "memTotal",
        "memCache",
        "diskUsed",
        "diskTotal",
    }
    second = samples[1]["timestampUnix"]
    assert (await e2b.http.get(path, params={"start": second})).json() == samples[1:]
    assert (await e2b.http.get(path, params={"end": second})).json() == samples[:2]
    assert (await e2b.http.get(path, params={"start": second - 3600, "end": second - 1800})).json() == []
    assert (await e2b.error("GET", path, params={"start": 2, "end": 1}))[0] == 400


async def test_metrics_of_many(e2b: E2b) -> None:
    ids = [(await e2b.create())["sandboxID"] for _ in range(2)]
    await e2b.api.world.clock.advance(11)
    found = (await e2b.http.get("/sandboxes/metrics", params={"sandbox_ids": ",".join([*ids, "a" * 20])})).json()
    newest = [(await e2b.http.get(f"/sandboxes/{id}/metrics")).json()[-1] for id in ids]
    assert found == {"sandboxes": dict(zip(ids, newest, strict=True))}


@pytest.mark.parametrize("query", ["", "?sandbox_ids=", "?sandbox_ids=No!", "?sandbox_ids=" + ",".join(["a"] * 101)])
async def test_bad_lists_of_ids(e2b: E2b, query: str) -> None:
    assert (await e2b.error("GET", f"/sandboxes/metrics{query}"))[0] == 400


async def test_logs_in_their_first_form(e2b: E2b) -> None:
    id = (await e2b.create())["sandboxID"]
    e2b.api.world.node.machine.sandboxes[SandboxId(id)].log = LOG
    told = (await e2b.http.get(f"/sandboxes/{id}/logs", params={"start": START_MS + 1000, "limit": 2})).json()
    assert [one["message"] for one in told["logEntries"]] == ["line 1", "line 2"]
    assert json.loads(told["logs"][1]["line"]) == {"level": "warn", "logger": "envd", "message": "line 2", "pid": "2"}
    assert told["logs"][1]["timestamp"] == "2026-01-01T00:00:02.000Z"


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("", [0, 1, 2, 3]),
        ("limit=2", [0, 1]),
        ("direction=backward&limit=2", [3, 2]),
        (f"cursor={START_MS + 2000}", [2, 3]),
        (f"cursor={START_MS + 2000}&direction=backward", [2, 1, 0]),
        ("level=warn", [2, 3]),
        ("search=line%203", [3]),
        ("search=line&level=error&direction=backward", [3]),
    ],
)
async def test_logs_in_their_second_form(e2b: E2b, query: str, lines: list[int]) -> None:
    id = (await e2b.create())["sandboxID"]
    e2b.api.world.node.machine.sandboxes[SandboxId(id)].log = LOG
    told = (await e2b.http.get(f"/v2/sandboxes/{id}/logs?{query}")).json()
    assert [one["message"] for one in told["logs"]] == [f"line {n}" for n in lines]


@pytest.mark.parametrize("query", ["limit=1001", "direction=up", "level=loud", "cursor=-1"])
async def test_bad_questions_for_logs(e2b: E2b, query: str) -> None:
    id = (await e2b.create())["sandboxID"]
    assert (await e2b.error("GET", f"/v2/sandboxes/{id}/logs?{query}"))[0] == 400
