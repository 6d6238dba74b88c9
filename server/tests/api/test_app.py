"""The specification is a frozen file: a change of the API is a change of that file, seen in review."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from atolld.api.app import create_app
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

MODULES = (archives, builds, images, machine, observe, pools, project, sandboxes, snapshots, states, templates)
FROZEN = Path(__file__).parents[3] / "spec" / "openapi" / "native.json"


def test_the_specification_is_the_frozen_one() -> None:
    built = create_app(None).openapi()
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert built == frozen, (
        "the API changed: run `atolld openapi > spec/openapi/native.json` and look at the difference"
    )


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = create_app(None).openapi()["paths"]
    return [(path, method, operation) for path, methods in paths.items() for method, operation in methods.items()]


def test_every_operation_is_described_and_told_apart() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert all(operation.get("description") for _, _, operation in operations())


def test_every_operation_tells_how_it_fails() -> None:
    for path, method, operation in operations():
        schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorView"}, (path, method)


def test_every_body_forbids_unknown_fields() -> None:
    specification = create_app(None).openapi()
    for _, _, operation in operations():
        body = operation.get("requestBody")
        if body is None or operation["operationId"] in ("import_snapshot", "import_image", "put_build_files"):
            continue
        schema = body["content"]["application/json"]["schema"]
        for option in schema.get("anyOf", [schema]):
            if "$ref" in option:
                named = specification["components"]["schemas"][option["$ref"].rsplit("/", 1)[1]]
                assert named["additionalProperties"] is False


def handlers() -> list[Callable[..., object]]:
    routes = [route for module in MODULES for route in module.router.routes]
    return [route.endpoint for route in routes if isinstance(route, APIRoute)]


def dependencies(dependant: Dependant) -> Iterator[Callable[..., object]]:
    for one in dependant.dependencies:
        assert one.call is not None
        yield one.call
        yield from dependencies(one)


def test_nothing_of_a_request_waits_for_a_thread() -> None:
    """Plain functions are run by a pool of threads, which a busy machine lets every request wait for."""
    routes = [route for module in MODULES for route in module.router.routes]
    for route in routes:
        assert isinstance(route, APIRoute)
        for function in (route.endpoint, *dependencies(route.dependant)):
            assert inspect.iscoroutinefunction(function), function


def test_handlers_only_translate() -> None:
    assert len(handlers()) == len(operations())
    for handler in handlers():
        (function,) = ast.parse(inspect.getsource(handler)).body
        assert isinstance(function, ast.AsyncFunctionDef)
        body = function.body
        assert (body[-1].end_lineno or 0) - body[0].lineno < 20, handler
