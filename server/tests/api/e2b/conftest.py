"""E2B's dialect as its clients see it: the same daemon as for the native API, and their form of errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from ..conftest import Api  # noqa: TID252


@dataclass
class E2b:
    """`http` sends the key of the default project; the daemon tells the domain `sandbox.test` and allows 24 h."""

    api: Api

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


@pytest.fixture
def e2b(api: Api) -> E2b:
    return E2b(api)
