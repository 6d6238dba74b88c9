"""E2B's dialect as its clients see it: the same daemon as for the native API, and their form of errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from atolld.core.project import Project
from atolld.core.snapshot import Snapshot
from atolld.foundation.ids import SnapshotId, new_project_id
from atolld.storage.projects import SqlProjects

from ..conftest import Api  # noqa: TID252
from ..fakes import SNAPSHOT  # noqa: TID252
from .playedbuilds import PlayedBuilds


@dataclass
class E2b:
    """`http` sends the key of the default project; the daemon tells the domain `sandbox.test` and allows 24 h."""

    api: Api
    builds: PlayedBuilds

    @property
    def http(self) -> httpx.AsyncClient:
        return self.api.http

    async def create(self, path: str = "/v2/sandboxes", **body: Any) -> dict[str, Any]:
        response = await self.http.post(path, json={"templateID": "base", **body})
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    async def error(self, method: str, path: str, **arguments: Any) -> tuple[int, str]:
        """Status and message of a request that must fail, in the one form errors have here."""
        response = await self.http.request(method, path, **arguments)
        body = response.json()
        assert {"code", "message"} <= body.keys() <= {"code", "message", "error_code"}, body
        assert body["code"] == response.status_code >= 400
        assert response.headers["x-request-id"].startswith("req_")
        return response.status_code, body["message"]

    async def key_of_another(self) -> dict[str, str]:
        """The header of a key of another project."""
        world = self.api.world
        other = await SqlProjects(world.database).ensure(Project(new_project_id(), "others"), world.clock.now())
        _, secret = await world.keys.create(other.id, "k")
        return {"x-api-key": secret}


@pytest.fixture
def e2b(api: Api, monkeypatch: pytest.MonkeyPatch) -> E2b:
    """With builds that are only played."""
    builds = PlayedBuilds(api.world.registry.store, api.world.clock)
    for name in ("request", "start", "get", "logs", "has_files", "put_files"):
        monkeypatch.setattr(api.services.builds, name, getattr(builds, name))
    return E2b(api, builds)


@pytest.fixture
def whole(e2b: E2b, monkeypatch: pytest.MonkeyPatch) -> E2b:
    """With the snapshots of the control plane instead of those that are only played."""
    for name in ("create", "get", "list", "delete", "saved_as"):
        monkeypatch.setattr(e2b.api.snapshots, name, getattr(e2b.api.world.sandboxes.snapshots, name))
    return e2b


@dataclass
class Played:
    """A use case that is only played: `calls` are its arguments, `answers` what the next calls return or raise."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls.append((*arguments, *named.values()))
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


Play = Callable[..., Played]


@pytest.fixture
def play(e2b: E2b, monkeypatch: pytest.MonkeyPatch) -> Play:
    """`play(use_case, name, *answers)` stands in for a method of a use case."""

    def played(use_case: object, name: str, *answers: Any) -> Played:
        stand_in = Played(answers=deque(answers))
        monkeypatch.setattr(use_case, name, stand_in)
        return stand_in

    return played


def snapshot(id: str, name: str | None = None, **changes: Any) -> Snapshot:
    """A whole snapshot."""
    return replace(SNAPSHOT, id=SnapshotId(id), name=name, **changes)
