"""What the tests of the server speak to it with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Server:
    """`http`: a client of it."""

    http: httpx.AsyncClient

    async def run(self, code: str, **rest: Any) -> list[dict[str, Any]]:
        """Its lines, without the count."""
        answer = await self.http.post("/execute", json={"code": code, **rest})
        assert answer.status_code == 200, answer.text
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[-1] == {"type": "end_of_execution"}
        return [line for line in lines[:-1] if line["type"] != "number_of_executions"]

    async def value(self, code: str, **rest: Any) -> str | None:
        """The text of its main result."""
        return next((line["text"] for line in await self.run(code, **rest) if line.get("is_main_result")), None)
