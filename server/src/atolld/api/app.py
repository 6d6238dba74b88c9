"""The native API as an application."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute

from atolld.api import framework
from atolld.api.native import (
    archives,
    builds,
    images,
    machine,
    observe,
    pools,
    project,
    sandboxes,
    snapshots,
    states,
    templates,
)
from atolld.api.native.schemas import ErrorView
from atolld.api.services import Services

DESCRIPTION = "Isolated Linux environments for code nobody has read yet. Conventions: docs/api.md."


def create_app(services: Services | None) -> FastAPI:
    """The application; `services` None builds one that can only tell its specification."""
    app = FastAPI(
        title="Atoll",
        version=version("atolld"),
        description=DESCRIPTION,
        generate_unique_id_function=_operation_id,
        responses={"default": {"model": ErrorView, "description": "What went wrong."}},
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
    )
    app.state.services = services
    framework.install(app)
    for module in (sandboxes, states, archives, snapshots, builds, templates, images, pools, observe, project, machine):
        app.include_router(module.router)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
