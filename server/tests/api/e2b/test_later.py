from __future__ import annotations

import re
from pathlib import Path

import pytest

from atolld.api.e2b.later import LATER, WITHOUT_A_KEY

from .conftest import E2b

DOCS = Path(__file__).parents[4] / "docs" / "e2b.md"

ALL = LATER | WITHOUT_A_KEY


@pytest.mark.parametrize("operation", sorted(ALL))
async def test_it_says_that_it_is_not_there_and_why(e2b: E2b, operation: str) -> None:
    method, path = operation.split(" ")
    response = await e2b.http.request(method, re.sub(r"\{\w+\}", "x", path))
    assert response.status_code == 501 and response.headers["should-retry"] == "false"
    assert response.json() == {"code": 501, "message": ALL[operation]}


async def test_content_of_volumes_is_asked_for_with_a_token_of_the_volume(e2b: E2b) -> None:
    response = await e2b.http.get("/volumecontent/v/dir?path=/", headers={"authorization": "Bearer x", "x-api-key": ""})
    assert response.status_code == 501


async def test_a_path_of_nobody(e2b: E2b) -> None:
    assert (await e2b.error("GET", "/nothing/here"))[0] == 404
    assert (await e2b.error("PUT", "/teams"))[0] == 405


def test_the_documentation_lists_all_of_them() -> None:
    listed = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", DOCS.read_text("utf-8"), re.MULTILINE))
    assert listed == set(ALL)
