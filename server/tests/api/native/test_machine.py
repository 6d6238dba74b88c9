from __future__ import annotations

import dataclasses

import httpx
import pytest

from atolld.api.app import create_app

from ..conftest import Api, FakeCheck  # noqa: TID252


async def test_templates(api: Api) -> None:
    items = (await api.http.get("/v1/templates")).json()["items"]
    assert [one["name"] for one in items] == ["base", "other"]
    assert (await api.http.get("/v1/templates/base")).json() == items[0]
    assert "layers" not in items[0]


async def test_runtimes(api: Api) -> None:
    (told,) = (await api.http.get("/v1/runtimes")).json()["items"]
    assert told["name"] == "fake" and told["usable"] is True and told["isolation"]


@pytest.mark.parametrize(
    "checks, ok",
    [
        ([FakeCheck()], True),
        ([FakeCheck(ok=False, fatal=False, remedy="do this")], True),
        ([FakeCheck(), FakeCheck(ok=False)], False),
    ],
)
async def test_the_doctor(api: Api, checks: list[FakeCheck], ok: bool) -> None:
    api.checks[:] = checks
    told = (await api.http.get("/v1/doctor")).json()
    assert told == {"ok": ok, "checks": [dataclasses.asdict(one) for one in checks]}


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/version", "/v1/openapi.json"])
async def test_what_needs_no_key(api: Api, path: str) -> None:
    assert (await api.http.get(path, headers={"x-api-key": ""})).status_code == 200


@pytest.mark.parametrize(
    "address, public, status",
    [
        ("127.0.0.1", False, 200),
        ("127.8.8.8", False, 200),
        ("::1", False, 200),
        ("10.0.0.9", False, 403),
        ("10.0.0.9", True, 200),
    ],
)
async def test_who_may_read_the_metrics(api: Api, address: str, public: bool, status: int) -> None:
    app = create_app(dataclasses.replace(api.services, metrics_public=public))
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        response = await http.get("/metrics")
    assert response.status_code == status
    assert (response.text == "atoll_up 1\n") is (status == 200)
