import json
import re
from pathlib import Path

import pytest

from atolld.api.errors import TABLE, render, row_of
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    all_error_types,
)

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.mark.parametrize("kind", all_error_types(), ids=lambda kind: kind.__name__)
def test_every_kind_has_a_status(kind: type[AtollError]) -> None:
    assert 400 <= row_of(kind).http <= 599


def test_every_kind_of_the_tree_has_a_row_of_its_own_or_shares_its_parents_code() -> None:
    for kind in all_error_types():
        assert kind in TABLE or kind.code == kind.__mro__[1].code, kind  # type: ignore[attr-defined]


def test_one_code_has_one_status() -> None:
    statuses: dict[str, int] = {}
    for kind, row in TABLE.items():
        assert statuses.setdefault(kind.code, row.http) == row.http


def test_an_error_is_rendered_with_its_code_and_request() -> None:
    told = render(NotFound("no such thing", name="x"), "req_1")
    assert told.status == 404
    assert json.loads(told.body) == {
        "error": {"code": "not_found", "message": "no such thing", "request_id": "req_1", "details": {"name": "x"}}
    }
    assert (b"x-request-id", b"req_1") in told.headers
    assert (b"content-length", str(len(told.body)).encode()) in told.headers


@pytest.mark.parametrize(
    "error, header",
    [
        (Unauthenticated("who?"), (b"www-authenticate", b"Bearer")),
        (Capacity("full"), (b"retry-after", b"1")),
    ],
)
def test_headers_that_go_with_a_kind(error: AtollError, header: tuple[bytes, bytes]) -> None:
    assert header in render(error, "r").headers
    assert header not in render(InvalidArgument("x"), "r").headers


def test_details_that_are_no_json_are_shown_as_text() -> None:
    assert json.loads(render(NotFound("x", path=Path("/a")), "r").body)["error"]["details"] == {"path": "/a"}


def test_the_documentation_lists_exactly_these_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    expected = {(kind.code, str(row.http), row.meaning) for kind, row in TABLE.items() if kind is not AtollError}
    assert set(rows) == expected
