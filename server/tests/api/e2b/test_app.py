"""E2B's dialect is frozen too: a change is a change of a file, seen in review."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from fastapi.routing import APIRoute

from atolld.api.e2b.app import create_e2b_app
from atolld.api.e2b.options import ENVD_VERSION

ROOT = Path(__file__).parents[4]


def test_the_specification_is_the_frozen_one() -> None:
    frozen = json.loads((ROOT / "spec" / "openapi" / "e2b.json").read_text(encoding="utf-8"))
    assert create_e2b_app(None).openapi() == frozen, (
        "E2B's dialect changed: run `atolld openapi e2b > spec/openapi/e2b.json` and look at the difference"
    )


def test_every_operation_is_described_and_told_apart() -> None:
    operations = [one for methods in create_e2b_app(None).openapi()["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one.get("description") for one in operations)


def test_nothing_of_a_request_waits_for_a_thread() -> None:
    for route in create_e2b_app(None).routes:
        if isinstance(route, APIRoute):
            assert inspect.iscoroutinefunction(route.endpoint), route


def test_the_version_is_the_agents() -> None:
    source = (ROOT / "agent" / "src" / "lib.rs").read_text(encoding="utf-8")
    assert re.findall(r'ENVD_VERSION: &str = "(.*)"', source) == [ENVD_VERSION]
