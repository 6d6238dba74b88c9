"""The API as a client sees it, over a control plane on a fake node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from atolld.api.dialects import Dialects
from atolld.api.e2b.options import E2bOptions
from atolld.api.entry import Entry
from atolld.api.services import Check, Services
from atolld.control.images import Images
from atolld.control.live import Endpoint
from atolld.control.pools import Pools
from atolld.control.snapshots import Snapshots
from atolld.control.testing import World

from .fakebuilds import FakeBuilds
from .fakeimages import FakeImages
from .fakes import FakePools, FakeSnapshots


@dataclass
class FakeCheck:
    name: str = "agent"
    ok: bool = True
    summary: str = "there"
    remedy: str = ""
    fatal: bool = True


@dataclass
class Api:
    """`http` sends the key of the default project; `observed` is what the metrics were told."""

    world: World
    http: httpx.AsyncClient
    services: Services
    snapshots: FakeSnapshots
    pools: FakePools
    images: FakeImages
    builds: FakeBuilds
    checks: list[FakeCheck] = field(default_factory=lambda: [FakeCheck()])
    observed: list[tuple[str, int]] = field(default_factory=list)
    agents_are_well: bool = True

    async def error(self, method: str, path: str, **arguments: Any) -> tuple[int, str, str]:
        """Status, code and message of a request that must fail, in the one form errors have."""
        response = await self.http.request(method, path, **arguments)
        body = response.json()
        assert body.keys() == {"error"}, body
        assert {"code", "message", "request_id"} <= body["error"].keys() <= {"code", "message", "request_id", "details"}
        assert body["error"]["request_id"] == response.headers["x-request-id"]
        return response.status_code, body["error"]["code"], body["error"]["message"]

    async def create(self, **body: Any) -> dict[str, Any]:
        response = await self.http.post("/v1/sandboxes", json={"runtime": "fake", **body})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created


async def no_data_plane(scope: object, receive: object, send: object, request_id: str) -> None:
    raise AssertionError("nothing here belongs to the gateway")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    world = await World.open(tmp_path / "atoll.db")
    _, secret = await world.keys.create(world.project.id, "test")

    async def doctor() -> list[Check]:
        return [*made.checks]

    async def agent_answers(_endpoint: Endpoint) -> bool:
        return made.agents_are_well

    snapshots, pools, images = FakeSnapshots(), FakePools(), FakeImages()
    builds = FakeBuilds(tmp_path / "builds", world.registry)
    services = Services(
        sandboxes=world.sandboxes,
        snapshots=cast("Snapshots", snapshots),
        pools=cast("Pools", pools),
        templates=world.templates,
        images=Images(images),
        builds=builds.builds,
        definitions=builds.definitions,
        builtins=builds.builtins,
        template_records=world.registry.records,
        template_tags=world.registry.tags,
        projects=world.projects,
        keys=world.keys,
        events=world.events,
        node=world.node,
        doctor=doctor,
        metrics=lambda: b"atoll_up 1\n",
        health=lambda: {"status": "ok", "version": "0", "uptime_s": 1.0, "sandboxes": 0},
        agent_answers=agent_answers,
    )
    observed: list[tuple[str, int]] = []
    entry = Entry(
        Dialects(services, E2bOptions(domain="sandbox.test", max_timeout_h=24, runtime="fake")).of,
        no_data_plane,
        lambda path, headers: False,
        lambda route, status, seconds: observed.append((route, status)),
    )
    transport = httpx.ASGITransport(app=entry, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"x-api-key": secret}) as http:
        made = Api(world, http, services, snapshots, pools, images, builds, observed=observed)
        yield made
    await world.close()
