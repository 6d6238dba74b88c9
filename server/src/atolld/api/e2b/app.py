"""E2B's REST API as an application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from fastapi.routing import APIRoute

from atolld.api import framework
from atolld.api.e2b import (
    builds,
    forks,
    later,
    lists,
    observe,
    pauses,
    projects,
    sandboxes,
    snapshots,
    tags,
    templatefiles,
    templates,
)
from atolld.api.e2b.options import E2bOptions
from atolld.api.e2b.uploads import UploadLinks
from atolld.api.e2b.views import ErrorView
from atolld.api.errors import render_e2b
from atolld.api.services import Services

DESCRIPTION = "What E2B's own SDKs and command line use. What is not there yet answers 501: docs/e2b.md."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def create_e2b_app(services: Services | None, options: E2bOptions | None = None) -> FastAPI:
    """The application; `services` None builds one that can only tell its specification."""
    app = FastAPI(
        title="Atoll: E2B's API",
        version=version("atolld"),
        description=DESCRIPTION,
        generate_unique_id_function=_operation_id,
        responses={"default": {"model": ErrorView, "description": "What went wrong."}},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.options = options or E2bOptions()
    app.state.uploads = UploadLinks()
    framework.install(app, render_e2b)
    # Fixed paths before those with an id in the same place.
    modules = (
        observe,
        lists,
        sandboxes,
        pauses,
        forks,
        builds,
        templatefiles,
        tags,
        later,
        snapshots,
        templates,
        projects,
    )
    for module in modules:
        app.include_router(module.router)
    app.add_middleware(_SlashesKept)
    return app


class _SlashesKept:
    """Routes by the path with `%2F` left as it is: ids like `namespace/name` are one segment."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path")
        if raw is not None and b"%2" in raw:
            parts = raw.partition(b"?")[0].decode("latin-1").split("/")
            # Decoded once here and once by the handler, so that a segment's own slash is never a separator.
            scope["path"] = "/".join(unquote(part).replace("%", "%25").replace("/", "%2F") for part in parts)
        await self._app(scope, receive, send)


def _operation_id(route: APIRoute) -> str:
    return route.name
