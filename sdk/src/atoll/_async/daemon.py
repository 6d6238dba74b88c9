"""The daemon itself: what it offers, how it is, and the project's keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from atoll._async.http import AsyncCall, AsyncHttp
from atoll._async.images import AsyncImages
from atoll._async.templates import AsyncTemplates
from atoll._config import Config
from atoll._errors import Internal


class AsyncDaemon:
    """One daemon. The values it returns are the daemon's JSON objects; `docs` of the native API name their fields.

    `images`: those of the project, see `AsyncImages`. `templates`: built ahead, see `AsyncTemplates`. All methods raise
    ConnectionFailed when it cannot be reached and Unauthenticated when the key is not accepted.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._http = AsyncHttp(config or Config.load())
        self.images = AsyncImages(self._http)
        self.templates = AsyncTemplates(self._http)

    async def version(self) -> Mapping[str, Any]:
        """`{"version": ..., "api": "v1"}`; needs no key."""
        return _object(await self._get("/v1/version"))

    async def doctor(self) -> Mapping[str, Any]:
        """`{"ok": ..., "checks": [{"name", "ok", "summary", "remedy", "fatal"}]}`."""
        return _object(await self._get("/v1/doctor"))

    async def project(self) -> Mapping[str, Any]:
        """The key's project: limits, running sandboxes, the machine's room."""
        return _object(await self._get("/v1/project"))

    async def runtimes(self) -> Sequence[Mapping[str, Any]]:
        """Each runtime: `name`, `usable`, `reason`, `version`, `isolation`, `missing`, `details`."""
        return _items(await self._get("/v1/runtimes"))

    async def keys(self) -> Sequence[Mapping[str, Any]]:
        """Each key without its secret: `id`, `name`, `prefix`, `created_at`, `last_used_at`, `revoked_at`."""
        return _items(await self._get("/v1/keys"))

    async def create_key(self, name: str) -> Mapping[str, Any]:
        """A new key: `{"key": {...}, "secret": "..."}`. The secret is told here and never again."""
        headers = {"content-type": "application/json"}
        call = AsyncCall("POST", "/v1/keys", headers=headers, content=json.dumps({"name": name}).encode())
        return _object(await self._http.json(call))

    async def revoke_key(self, id: str) -> None:
        """End a key; it is refused from now on. Raises NotFound."""
        await self._http.json(AsyncCall("DELETE", f"/v1/keys/{quote(id, safe='')}", is_safe=True))

    async def _get(self, path: str) -> Any:
        return await self._http.json(AsyncCall("GET", path, is_safe=True))


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Internal("the daemon's answer is not a JSON object")
    return answer


def _items(answer: Any) -> Sequence[Mapping[str, Any]]:
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Internal("the daemon's answer is not a list of objects")
    return items
