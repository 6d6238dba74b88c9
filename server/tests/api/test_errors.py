import json
import re
from pathlib import Path

import pytest

from atolld.api.errors import TABLE, render, render_e2b, row_of
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    Conflict,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    RuntimeUnusable,
    Unauthenticated,
    Unavailable,
    Unimplemented,
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


@pytest.mark.parametrize("kind", all_error_types(), ids=lambda kind: kind.__name__)
def test_e2bs_form_of_every_kind(kind: type[AtollError]) -> None:
    told = render_e2b(kind("why", secret="x"), "req_1")
    body = json.loads(told.body)
    assert body == {
        "code": told.status,
        "message": "why",
        **({"error_code": body["error_code"]} if len(body) > 2 else {}),
    }
    assert 400 <= told.status <= 599
    headers = dict(told.headers)
    assert headers[b"x-request-id"] == b"req_1" and int(headers[b"content-length"]) == len(told.body)


@pytest.mark.parametrize(
    ("error", "status", "error_code", "retry", "after"),
    [
        (InvalidArgument("x"), 400, None, None, None),
        (Capacity("x"), 503, "sandbox_capacity_unavailable", b"true", b"1"),
        (Unavailable("x"), 503, None, b"true", b"1"),
        (RuntimeUnusable("x"), 503, "sandbox_no_compatible_node", b"false", None),
        (LimitExceeded("x"), 429, None, b"false", None),
        (Unimplemented("x"), 501, None, b"false", None),
        (Conflict("x", error_code="idempotency_request_mismatch"), 409, "idempotency_request_mismatch", None, None),
        (Internal("x"), 500, "internal_server_error", None, None),
    ],
)
def test_what_e2bs_clients_are_told_to_do(
    error: AtollError, status: int, error_code: str | None, retry: bytes | None, after: bytes | None
) -> None:
    told = render_e2b(error, "r")
    headers = dict(told.headers)
    assert (told.status, headers.get(b"should-retry"), headers.get(b"retry-after")) == (status, retry, after)
    assert json.loads(told.body).get("error_code") == error_code


def test_faults_of_http_have_their_own_status() -> None:
    told = render_e2b(InvalidArgument("too large"), "r", 413)
    assert (told.status, json.loads(told.body)["code"]) == (413, 413)
