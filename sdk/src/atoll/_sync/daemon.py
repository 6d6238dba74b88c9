# Generated from `src/atoll/_async/daemon.py` by `scripts/unasync.py`: change that, not this.
"""The daemon itself: what it offers, how it is, and the project's keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from atoll._sync.http import Call, Http
from atoll._sync.images import Images
from atoll._sync.templates import Templates
from atoll._config import Config
from atoll._errors import Internal


class Daemon:
    """One daemon. The values it returns are the daemon's JSON objects; `docs` of the native API name their fields.

    `images`: those of the project, see `Images`. `templates`: built ahead, see `Templates`. All methods raise
    ConnectionFailed when it cannot be reached and Unauthenticated when the key is not accepted.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._http = Http(config or Config.load())
        self.images = Images(self._http)
        self.templates = Templates(self._http)

    def version(self) -> Mapping[str, Any]:
        """`{"version": ..., "api": "v1"}`; needs no key."""
        return _object(self._get("/v1/version"))

    def doctor(self) -> Mapping[str, Any]:
        """`{"ok": ..., "checks": [{"name", "ok", "summary", "remedy", "fatal"}]}`."""
        return _object(self._get("/v1/doctor"))

    def project(self) -> Mapping[str, Any]:
        """The key's project: limits, running sandboxes, the machine's room."""
        return _object(self._get("/v1/project"))

    def runtimes(self) -> Sequence[Mapping[str, Any]]:
        """Each runtime: `name`, `usable`, `reason`, `version`, `isolation`, `missing`, `details`."""
        return _items(self._get("/v1/runtimes"))

    def keys(self) -> Sequence[Mapping[str, Any]]:
        """Each key without its secret: `id`, `name`, `prefix`, `created_at`, `last_used_at`, `revoked_at`."""
        return _items(self._get("/v1/keys"))

    def create_key(self, name: str) -> Mapping[str, Any]:
        """A new key: `{"key": {...}, "secret": "..."}`. The secret is told here and never again."""
        headers = {"content-type": "application/json"}
        call = Call("POST", "/v1/keys", headers=headers, content=json.dumps({"name": name}).encode())
        return _object(self._http.json(call))

    def revoke_key(self, id: str) -> None:
        """End a key; it is refused from now on. Raises NotFound."""
        self._http.json(Call("DELETE", f"/v1/keys/{quote(id, safe='')}", is_safe=True))

    def _get(self, path: str) -> Any:
        return self._http.json(Call("GET", path, is_safe=True))


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Internal("the daemon's answer is not a JSON object")
    return answer


def _items(answer: Any) -> Sequence[Mapping[str, Any]]:
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Internal("the daemon's answer is not a list of objects")
    return items
