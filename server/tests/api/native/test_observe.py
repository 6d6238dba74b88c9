from __future__ import annotations

import pytest

from atolld.foundation.ids import SandboxId

from ..conftest import Api  # noqa: TID252


async def test_metrics_of_a_sandbox(api: Api) -> None:
    path = f"/v1/sandboxes/{(await api.create())['id']}/metrics"
    await api.world.clock.advance(11)
    items = (await api.http.get(path)).json()["items"]
    assert len(items) >= 2 and items[0]["memory_total_bytes"] == 512 * 1024 * 1024
    later = (await api.http.get(path, params={"start": items[1]["timestamp"]})).json()["items"]
    assert later == items[1:]
    assert (await api.http.get(path, params={"end": items[0]["timestamp"]})).json()["items"] == items[:1]


async def test_logs_are_the_guests_word(api: Api) -> None:
    id = (await api.create())["id"]
    log = b'{"timestamp":"2026-01-01T00:00:00Z","level":"warn","logger":"init","message":"hello","pid":7}\nplain\n'
    api.world.node.machine.sandboxes[SandboxId(id)].log = log
    items = (await api.http.get(f"/v1/sandboxes/{id}/logs")).json()["items"]
    assert [(one["level"], one["message"]) for one in items] == [("warn", "hello"), ("info", "plain")]
    assert items[0]["fields"] == {"logger": "init", "pid": 7}
    limited = await api.http.get(f"/v1/sandboxes/{id}/logs", params={"limit_bytes": 6})
    assert [one["message"] for one in limited.json()["items"]] == ["plain"]


@pytest.mark.parametrize("limit", ["0", "-1", "1048577", "x"])
async def test_a_bad_limit_of_logs(api: Api, limit: str) -> None:
    id = (await api.create())["id"]
    assert (await api.error("GET", f"/v1/sandboxes/{id}/logs?limit_bytes={limit}"))[:2] == (400, "invalid_argument")


async def test_events_are_read_on(api: Api) -> None:
    first, second = [(await api.create())["id"] for _ in range(2)]
    await api.http.delete(f"/v1/sandboxes/{first}")
    all_ = (await api.http.get("/v1/events")).json()["items"]
    assert [(one["type"], one["sandbox_id"]) for one in all_] == [
        ("sandbox.created", first),
        ("sandbox.created", second),
        ("sandbox.killed", first),
    ]
    rest = (await api.http.get("/v1/events", params={"after": all_[0]["sequence"], "limit": 1})).json()["items"]
    assert rest == all_[1:2]
    of_one = (await api.http.get(f"/v1/sandboxes/{first}/events")).json()["items"]
    assert of_one == [all_[0], all_[2]] and of_one[1]["data"]["reason"] == "killed"
