from __future__ import annotations

from typing import Any

import pytest

from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import Capacity, FailedPrecondition, LimitExceeded, NotFound
from atolld.foundation.ids import SandboxId

from .conftest import E2b, Play


async def made(e2b: E2b) -> Sandbox:
    id = SandboxId((await e2b.create())["sandboxID"])
    return await e2b.api.world.sandboxes.get(e2b.api.world.project.id, id)


@pytest.mark.parametrize(
    ("body", "count", "lives_s"),
    [(None, 1, 15), ({}, 1, 15), ({"count": 20, "timeout": 60}, 20, 60), ({"timeout": 0}, 1, 1)],
)
async def test_what_is_asked_for(e2b: E2b, play: Play, body: dict[str, Any] | None, count: int, lives_s: int) -> None:
    sandbox = await made(e2b)
    fork = play(e2b.api.services.sandboxes, "fork", [sandbox])
    response = await e2b.http.post(f"/sandboxes/{sandbox.id}/fork", json=body)
    assert response.status_code == 201
    assert fork.calls == [(sandbox.project_id, sandbox.id, count, lives_s)]


async def test_each_comes_up_or_fails_by_itself(e2b: E2b, play: Play) -> None:
    first, second = await made(e2b), await made(e2b)
    results = [first, LimitExceeded("too many"), second, Capacity("no room")]
    play(e2b.api.services.sandboxes, "fork", results)
    entries = (await e2b.http.post(f"/sandboxes/{first.id}/fork", json={"count": 4})).json()
    assert [entry.keys() for entry in entries] == [{"sandbox"}, {"error"}, {"sandbox"}, {"error"}]
    assert [entries[at]["sandbox"]["sandboxID"] for at in (0, 2)] == [first.id, second.id]
    assert entries[0]["sandbox"]["envdAccessToken"] == first.agent_token
    assert entries[1]["error"] == {"code": 429, "message": "too many"}
    assert entries[3]["error"] == {
        "code": 503,
        "message": "no room",
        "error_code": "sandbox_capacity_unavailable",
    }


@pytest.mark.parametrize("body", [{"count": 0}, {"count": 21}, {"count": -1}, {"count": "x"}, {"timeout": 86_401}])
async def test_what_cannot_be_asked_for(e2b: E2b, play: Play, body: dict[str, Any]) -> None:
    sandbox = await made(e2b)
    fork = play(e2b.api.services.sandboxes, "fork")
    assert (await e2b.error("POST", f"/sandboxes/{sandbox.id}/fork", json=body))[0] == 400
    assert fork.calls == []


@pytest.mark.parametrize(
    ("error", "status"), [(FailedPrecondition("it is paused", state="paused"), 409), (NotFound("none"), 404)]
)
async def test_forks_of_what_does_not_run(e2b: E2b, play: Play, error: Exception, status: int) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, "fork", error)
    assert (await e2b.error("POST", f"/sandboxes/{sandbox.id}/fork"))[0] == status
