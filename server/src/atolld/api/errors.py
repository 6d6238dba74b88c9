"""The one table from error kinds to protocols, and the bodies made from it.

A dialect that needs another form adds a column here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from atolld.foundation.errors import (
    AlreadyExists,
    AtollError,
    Capacity,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PortNotOpen,
    RuntimeUnusable,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)


@dataclass(frozen=True, slots=True)
class E2b:
    """How one kind of error is told in E2B's form.

    `error_code`: E2B's own finer code, where it has one. `retry`: what its clients are told about sending the request
    again (`Should-Retry`); None leaves it to what they make of the status.
    """

    http: int
    error_code: str | None = None
    retry: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error is told.

    `http`: status of the native API. `meaning`: one sentence for docs/api.md. `e2b`: its form for E2B's clients.
    """

    http: int
    meaning: str
    e2b: E2b


TABLE: dict[type[AtollError], Row] = {
    AtollError: Row(
        500, "A fault of the daemon; the log has it under the request id.", E2b(500, "internal_server_error")
    ),
    InvalidArgument: Row(400, "The request is wrong; sending it again cannot help.", E2b(400)),
    Unauthenticated: Row(401, "No API key was given, or one that does not exist or was revoked.", E2b(401)),
    PermissionDenied: Row(403, "The key is known but may not do this.", E2b(403)),
    NotFound: Row(404, "There is no such object in the key's project.", E2b(404)),
    AlreadyExists: Row(409, "The name or id is taken.", E2b(409)),
    FailedPrecondition: Row(409, "The object is not in a state that allows this.", E2b(409)),
    Conflict: Row(409, "Somebody else changed the object first; read it again.", E2b(409)),
    LimitExceeded: Row(429, "A limit of the project would be passed.", E2b(429, retry=False)),
    Capacity: Row(
        503, "The machine has no room for this; nothing was made.", E2b(503, "sandbox_capacity_unavailable", retry=True)
    ),
    Unimplemented: Row(501, "It is not there; the message says why and what to use instead.", E2b(501, retry=False)),
    Unavailable: Row(503, "A part this needs cannot be used now; trying again later may help.", E2b(503, retry=True)),
    RuntimeUnusable: Row(
        503,
        "The runtime cannot be used on this machine; the message is the reason.",
        E2b(503, "sandbox_no_compatible_node", retry=False),
    ),
    GuestUnreachable: Row(
        502, "The agent inside the sandbox does not answer.", E2b(502, "sandbox_create_failed", retry=True)
    ),
    PortNotOpen: Row(502, "The sandbox runs, but nothing listens on that port of it.", E2b(502, retry=False)),
    DeadlineExceeded: Row(504, "It took longer than it was allowed to.", E2b(504)),
    Internal: Row(
        500, "A fault of the daemon; the log has it under the request id.", E2b(500, "internal_server_error")
    ),
}

# A client that waits this long before it tries again has a fair chance.
RETRY_AFTER_S = {Capacity.code: 1, Unavailable.code: 1}


def row_of(error: type[AtollError]) -> Row:
    """The row of `error`, or of the nearest class above it that has one."""
    for kind in error.__mro__:
        if kind in TABLE:
            return TABLE[kind]
    raise TypeError(f"{error!r} is not an AtollError")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error as an HTTP answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def render(error: AtollError, request_id: str, status: int | None = None) -> Rendered:
    """`error` in the native form; `status` overrides the table's for faults of HTTP itself (405, 413, 431)."""
    inner: dict[str, object] = {"code": error.code, "message": error.message, "request_id": request_id}
    if error.details:
        inner["details"] = dict(error.details)
    body = json.dumps({"error": inner}, default=str).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    if error.code == Unauthenticated.code:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.code in RETRY_AFTER_S:
        headers.append((b"retry-after", str(RETRY_AFTER_S[error.code]).encode()))
    return Rendered(status or row_of(type(error)).http, headers, body)


def render_e2b(error: AtollError, request_id: str, status: int | None = None) -> Rendered:
    """`error` in E2B's form; `status` as for `render`. The detail `error_code` stands for the table's."""
    row = row_of(type(error)).e2b
    status = status or row.http
    body: dict[str, object] = {"code": status, "message": error.message}
    error_code = error.details.get("error_code", row.error_code)
    if error_code is not None:
        body["error_code"] = error_code
    encoded = json.dumps(body, default=str).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(encoded)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    if row.retry is not None:
        headers.append((b"should-retry", b"true" if row.retry else b"false"))
    if row.retry and error.code in RETRY_AFTER_S:
        headers.append((b"retry-after", str(RETRY_AFTER_S[error.code]).encode()))
    return Rendered(status, headers, encoded)


Renderer = Callable[[AtollError, str, int | None], Rendered]


def internal(request_id: str) -> Internal:
    """What the caller is shown of an exception nobody expected: nothing but where to look."""
    return Internal(f"the daemon failed unexpectedly; its log has the cause under request {request_id}")
