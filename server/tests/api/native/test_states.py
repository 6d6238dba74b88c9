from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from atolld.api.app import create_app
from atolld.control.resuming import Unchanged
from atolld.control.sandboxes import Sandboxes
from atolld.core.snapshot import SaveKind

from ..conftest import Api  # noqa: TID252
from ..fakes import FakeStates  # noqa: TID252

PATH = "/v1/sandboxes/i" + "0" * 19


@dataclasses.dataclass
class States:
    """The API over a fake of the use cases."""

    fake: FakeStates
    http: httpx.AsyncClient

    async def post(self, verb: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        response = await self.http.post(f"{PATH}/{verb}", json=body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
async def states(api: Api) -> AsyncIterator[States]:
    fake = FakeStates()
    app = create_app(dataclasses.replace(api.services, sandboxes=cast("Sandboxes", fake)))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=api.http.headers) as http:
        yield States(fake, http)


@pytest.mark.parametrize(
    "verb, body, asked",
    [
        ("pause", None, ("pause", SaveKind.MEMORY)),
        ("pause", {"kind": "filesystem"}, ("pause", SaveKind.FILESYSTEM)),
        ("resume", None, ("resume", Unchanged.TIMEOUT, None)),
        ("resume", {}, ("resume", Unchanged.TIMEOUT, None)),
        ("resume", {"timeout_s": None}, ("resume", None, None)),
        ("resume", {"timeout_s": 5, "kind": "filesystem"}, ("resume", 5, SaveKind.FILESYSTEM)),
        ("freeze", None, ("freeze",)),
        ("fork", None, ("fork", 1, Unchanged.TIMEOUT)),
        ("fork", {"count": 3, "timeout_s": None}, ("fork", 3, None)),
        ("fork", {"count": 100, "timeout_s": 9}, ("fork", 100, 9)),
        ("rollback", {"snapshot": "team/box:v1"}, ("rollback", "team/box:v1")),
    ],
)
async def test_what_is_asked(
    states: States, verb: str, body: dict[str, object] | None, asked: tuple[object, ...]
) -> None:
    await states.post(verb, body)
    assert states.fake.asked == [asked]


@pytest.mark.parametrize(
    "verb, body",
    [
        ("pause", {"kind": "swap"}),
        ("resume", {"timeout_s": 0}),
        ("resume", {"kind": "x"}),
        ("fork", {"count": 0}),
        ("fork", {"count": 101}),
        ("fork", {"count": "2"}),
        ("rollback", {}),
        ("rollback", {"snapshot": ""}),
        ("freeze/x", {}),
    ],
)
async def test_what_is_refused_at_the_edge(states: States, verb: str, body: dict[str, object]) -> None:
    response = await states.http.post(f"{PATH}/{verb}", json=body)
    assert response.status_code in (400, 404) and states.fake.asked == []


async def test_a_paused_one_says_so(states: States) -> None:
    paused = await states.post("pause")
    assert (paused["state"], paused["paused_at"]) == ("paused", "1970-01-01T00:00:02.000Z")
    again = await states.http.post(f"{PATH}/pause")
    error = again.json()["error"]
    assert (again.status_code, error["code"], error["details"]) == (409, "failed_precondition", {"state": "paused"})


async def test_a_fork_tells_of_each(states: States) -> None:
    made, failed = (await states.post("fork", {"count": 2}))["items"]
    assert (made["sandbox"]["state"], made["error"]) == ("running", None)
    assert failed == {
        "sandbox": None,
        "error": {"code": "capacity", "message": "no room", "details": {"needed_mib": 5}},
    }


async def test_a_policy_is_replaced_or_changed(states: States) -> None:
    names = ("on_timeout", "keep_memory", "auto_resume", "idle_timeout_s", "on_idle", "pause_after_s")

    async def send(method: str, **body: object) -> tuple[object, ...]:
        response = await states.http.request(method, f"{PATH}/lifecycle", json=body)
        answer = response.json()
        return tuple(answer[name] for name in names) if response.is_success else (answer["error"]["code"],)

    assert await send("PUT", idle_timeout_s=60, pause_after_s=600) == ("kill", True, True, 60, "freeze", 600)
    assert await send("PATCH", on_timeout="pause", auto_resume=False) == ("pause", True, False, 60, "freeze", 600)
    assert await send("PATCH", pause_after_s=None, on_idle="pause") == ("pause", True, False, 60, "pause", None)
    assert await send("PATCH") == ("pause", True, False, 60, "pause", None)
    assert await send("PUT") == ("kill", True, True, None, "freeze", None)
    for bad in ({"on_idle": "kill"}, {"idle_timeout_s": 0}, {"pause_after_s": 5}, {"x": 1}, {"keep_memory": None}):
        assert await send("PATCH", **bad) == ("invalid_argument",)
