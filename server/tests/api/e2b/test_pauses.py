from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atolld.control.live import Endpoint
from atolld.core.lifecycle import SandboxState
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind, SnapshotRole
from atolld.foundation.errors import (
    Capacity,
    Conflict,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    NotFound,
)
from atolld.foundation.ids import SandboxId, SnapshotId

from .conftest import E2b, Play, snapshot

SAVE = SnapshotId("s" + "1" * 19)
PAUSED_AT = 1_800_000_000.0


async def made(e2b: E2b, **body: Any) -> Sandbox:
    id = SandboxId((await e2b.create(**body))["sandboxID"])
    return await e2b.api.world.sandboxes.get(e2b.api.world.project.id, id)


def in_state(sandbox: Sandbox, state: SandboxState, **changes: Any) -> Sandbox:
    return replace(sandbox, state=state, **changes)


def paused(sandbox: Sandbox) -> Sandbox:
    return in_state(sandbox, SandboxState.PAUSED, save_id=SAVE, paused_at=PAUSED_AT, expires_at=None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (None, SaveKind.MEMORY),
        ({}, SaveKind.MEMORY),
        ({"memory": None, "requireHealthyGuest": None}, SaveKind.MEMORY),
        ({"memory": True, "requireHealthyGuest": False}, SaveKind.MEMORY),
        ({"memory": False}, SaveKind.FILESYSTEM),
    ],
)
async def test_pause(e2b: E2b, play: Play, body: dict[str, Any] | None, kind: SaveKind) -> None:
    sandbox = await made(e2b)
    pause = play(e2b.api.services.sandboxes, "pause")
    response = await e2b.http.post(f"/sandboxes/{sandbox.id}/pause", json=body)
    assert (response.status_code, response.content) == (204, b"")
    assert pause.calls == [(sandbox.project_id, sandbox.id, kind)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FailedPrecondition("it is paused", state="paused"), 409),
        (FailedPrecondition("it is being paused", state="pausing"), 409),
        # Every 409 is "paused already" to the clients.
        (FailedPrecondition("/tmp/x is open and deleted"), 400),
        (FailedPrecondition("it is being created", state="creating"), 400),
        (Conflict("it changed"), 503),
        (NotFound("there is none"), 404),
        (Capacity("no room on disk"), 503),
        (Internal("ouch"), 500),
    ],
)
async def test_pauses_that_fail(e2b: E2b, play: Play, error: Exception, status: int) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, "pause", error)
    assert (await e2b.error("POST", f"/sandboxes/{sandbox.id}/pause"))[0] == status


@pytest.mark.parametrize("well", [True, False])
async def test_a_pause_that_needs_the_agent(e2b: E2b, play: Play, well: bool) -> None:
    sandbox = await made(e2b)
    endpoint = Endpoint("10.0.0.9", "token", sandbox.project_id, SandboxState.RUNNING)
    play(e2b.api.services.sandboxes, "wake", endpoint)
    e2b.api.agents_are_well = well
    pause = play(e2b.api.services.sandboxes, "pause")
    response = await e2b.http.post(f"/sandboxes/{sandbox.id}/pause", json={"requireHealthyGuest": True})
    assert response.status_code == (204 if well else 503)
    assert len(pause.calls) == well
    # With the finer code clients would raise another error than the one they promise.
    assert well or "error_code" not in response.json()


@pytest.mark.parametrize("version", ["", "/v2"])
@pytest.mark.parametrize(
    ("body", "lives_s", "kind"),
    [
        (None, 300, None),
        ({"timeout": 40}, 40, None),
        ({"timeout": 40, "memory": True}, 40, None),
        ({"timeout": 40, "memory": False}, 40, SaveKind.FILESYSTEM),
    ],
)
@pytest.mark.parametrize(("resumed", "status"), [(False, 200), (True, 201)])
async def test_connect(
    e2b: E2b,
    play: Play,
    version: str,
    body: dict[str, Any] | None,
    lives_s: int,
    kind: SaveKind | None,
    resumed: bool,
    status: int,
) -> None:
    sandbox = await made(e2b)
    connect = play(e2b.api.services.sandboxes, "connect", (sandbox, resumed))
    response = await e2b.http.post(f"{version}/sandboxes/{sandbox.id}/connect", json=body)
    assert response.status_code == status
    assert response.json()["envdAccessToken"] == sandbox.agent_token
    assert connect.calls == [(sandbox.project_id, sandbox.id, lives_s, kind)]


async def test_resume(e2b: E2b, play: Play) -> None:
    sandbox = await made(e2b)
    resume = play(e2b.api.services.sandboxes, "resume", sandbox, sandbox, sandbox)
    change = play(e2b.api.services.sandboxes, "set_lifecycle", sandbox, sandbox)
    path = f"/sandboxes/{sandbox.id}/resume"
    for body in (None, {"timeout": 30, "memory": False, "autoPause": True}, {"autoPause": False}):
        assert (await e2b.http.post(path, json=body)).status_code == 201
    kinds = [call[2:] for call in resume.calls]
    assert kinds == [(15, None), (30, SaveKind.FILESYSTEM), (15, None)]
    policies = [call[2](LifecyclePolicy(keep_memory=False)).on_timeout for call in change.calls]
    assert policies == [OnTimeout.PAUSE, OnTimeout.KILL]


@pytest.mark.parametrize(
    ("error", "status"),
    [(FailedPrecondition("it runs", state="running"), 409), (NotFound("none"), 404), (Capacity("no room"), 503)],
)
@pytest.mark.parametrize(("verb", "path"), [("resume", "resume"), ("connect", "connect")])
async def test_resumes_that_fail(e2b: E2b, play: Play, verb: str, path: str, error: Exception, status: int) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, verb, error)
    assert (await e2b.error("POST", f"/sandboxes/{sandbox.id}/{path}", json={}))[0] == status


@pytest.mark.parametrize(
    ("kind", "status", "error_code"),
    [
        (SaveKind.MEMORY, 409, "sandbox_snapshot_guest_agent_unresponsive"),
        (SaveKind.FILESYSTEM, 502, "sandbox_create_failed"),
    ],
)
@pytest.mark.parametrize(("verb", "path"), [("resume", "resume"), ("connect", "connect")])
async def test_an_agent_that_does_not_answer_with_its_memory(
    e2b: E2b, play: Play, verb: str, path: str, kind: SaveKind, status: int, error_code: str
) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, verb, GuestUnreachable("no answer"))
    play(e2b.api.services.sandboxes, "get", paused(sandbox))
    e2b.api.snapshots.all.append(snapshot(SAVE, kind=kind, role=SnapshotRole.PAUSE))
    response = await e2b.http.post(f"/sandboxes/{sandbox.id}/{path}", json={})
    assert (response.status_code, response.json()["error_code"]) == (status, error_code)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (SandboxState.RUNNING, "running"),
        (SandboxState.FROZEN, "running"),
        (SandboxState.PAUSING, "paused"),
        (SandboxState.PAUSED, "paused"),
        (SandboxState.RESUMING, "paused"),
    ],
)
async def test_states_as_they_are_shown(e2b: E2b, play: Play, state: SandboxState, shown: str) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, "get", in_state(sandbox, state))
    assert (await e2b.http.get(f"/sandboxes/{sandbox.id}")).json()["state"] == shown


@pytest.mark.parametrize(("kind", "mode"), [(SaveKind.MEMORY, "full"), (SaveKind.FILESYSTEM, "filesystem")])
async def test_a_paused_one_in_full(e2b: E2b, play: Play, kind: SaveKind, mode: str) -> None:
    sandbox = await made(e2b, autoPause=True, autoResume={"enabled": True})
    play(e2b.api.services.sandboxes, "get", paused(sandbox))
    e2b.api.snapshots.all.append(snapshot(SAVE, kind=kind, role=SnapshotRole.PAUSE))
    detail = (await e2b.http.get(f"/sandboxes/{sandbox.id}")).json()
    assert (detail["state"], detail["pauseMode"]) == ("paused", mode)
    assert detail["lifecycle"] == {"autoResume": True, "onTimeout": "pause"}
    assert detail["endAt"].startswith("2027-01-15T08:00:00")


async def test_a_running_one_has_no_pause_mode(e2b: E2b) -> None:
    sandbox = await made(e2b)
    assert "pauseMode" not in (await e2b.http.get(f"/sandboxes/{sandbox.id}")).json()


@pytest.mark.parametrize("state", ["paused", "pausing", "resuming"])
@pytest.mark.parametrize(
    ("path", "verb", "body"),
    [("timeout", "set_timeout", {"timeout": 5}), ("refreshes", "extend_timeout", {"duration": 5})],
)
async def test_a_paused_one_has_no_end_to_move(
    e2b: E2b, play: Play, path: str, verb: str, body: dict[str, int], state: str
) -> None:
    sandbox = await made(e2b)
    play(e2b.api.services.sandboxes, verb, FailedPrecondition("it does not run", state=state))
    status, message = await e2b.error("POST", f"/sandboxes/{sandbox.id}/{path}", json=body)
    assert status == 404 and state in message
