"""The tree, its codes, and how answers become errors."""

from __future__ import annotations

import json

import pytest

import atoll
from atoll import _errors as errors
from atoll._wire_errors import error_from_end_frame, error_from_response, sandbox_ended


def test_every_error_has_its_own_code_and_stands_in_the_docstring() -> None:
    kinds = [kind for kind in errors.all_error_types()[1:] if kind.__module__ == "atoll._errors"]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert f"{kind.__name__} " in (errors.__doc__ or "") and kind.code in (errors.__doc__ or "")
        assert getattr(atoll, kind.__name__) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, {"error": {"code": "not_found", "message": "no sandbox"}}, errors.NotFound, "no sandbox"),
        (503, {"error": {"code": "capacity", "message": "full"}}, errors.Capacity, "full"),
        (400, {"error": {"code": "from_the_future", "message": "?"}}, errors.InvalidArgument, "?"),
        (500, {"error": {"message": 7}}, errors.Internal, "the daemon answered HTTP 500"),
        (404, {"code": "not_found", "message": "path x"}, errors.NotFound, "path x"),
        (404, {"code": 404, "message": "path x"}, errors.NotFound, "path x"),
        (401, {"code": "unauthenticated", "message": "invalid username"}, errors.InvalidArgument, "invalid username"),
        (507, {"code": 507, "message": "no space"}, errors.NoSpace, "no space"),
        (429, {"code": "resource_exhausted", "message": "No space left"}, errors.NoSpace, "No space left"),
        (429, {"code": "resource_exhausted", "message": "processes"}, errors.LimitExceeded, "processes"),
        (418, b"teapot", errors.InvalidArgument, "the answer was HTTP 418: teapot"),
        (502, b"<html>no</html>", errors.GuestUnreachable, "the answer was HTTP 502"),
        (502, b"", errors.GuestUnreachable, "the answer was HTTP 502"),
        (500, b"[" * 100_000, errors.Internal, "the answer was HTTP 500"),
        (400, {"code": "not a code", "message": "m" * 9000}, errors.InvalidArgument, "m" * 2000),
    ],
)
def test_answers_become_errors(status: int, body: object, kind: type[Exception], message: str) -> None:
    error = error_from_response(status, body if isinstance(body, bytes) else json.dumps(body).encode(), "req_7")
    assert isinstance(error, kind)
    assert (error.message, error.request_id) == (message, "req_7")


def test_details_and_the_request_id_of_the_body_are_kept() -> None:
    body = {"error": {"code": "limit_exceeded", "message": "m", "request_id": "req_9", "details": {"limit": 3}}}
    error = error_from_response(429, json.dumps(body).encode(), "req_7")
    assert (type(error), error.request_id, error.details) == (errors.LimitExceeded, "req_9", {"limit": 3})


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"code": "not_found", "message": "m"}, errors.NotFound),
        ({"code": "deadline_exceeded"}, errors.Timeout),
        ({"code": 5}, errors.Internal),
        ({}, errors.Internal),
    ],
)
def test_end_frames_become_errors(frame: dict[str, object], kind: type[Exception]) -> None:
    assert type(error_from_end_frame(frame)) is kind


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        (None, "is not running any more"),
        ({"items": "no"}, "is not running any more"),
        ({"items": [{"type": "sandbox.killed", "data": {"reason": "expired"}}]}, "any more: its timeout was over"),
        (
            {"items": [{"type": "sandbox.killed", "data": {"reason": "crashed", "message": "signal 9"}}]},
            "any more: it crashed (signal 9)",
        ),
    ],
)
def test_an_ended_sandbox_says_why(events: object, ending: str) -> None:
    assert sandbox_ended("i1", events, None).message.endswith(ending)
