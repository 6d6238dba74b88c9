"""Ids in paths that may hold a `/` of their own, sent as `%2F`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match


class EncodedRoute(APIRoute):
    """Finds its handler by the path as it was sent: in `/v1/snapshots/a%2Fdiff` the id is `a/diff`.

    By the decoded path, which all other routes use, it would be the difference of `a`.
    """

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        """See `APIRoute.matches`."""
        match, found = super().matches({**scope, "path": scope["raw_path"].decode("latin-1")})
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(value) for name, value in found["path_params"].items()}
        return match, found
