"""The one table from error kinds to protocols, and the bodies made from it.

A dialect that needs another form adds a column here and nowhere else.
"""

from __future__ import annotations

import json
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
class Row:
    """How one kind of error is told. `http`: status of the native API. `meaning`: one sentence for docs/api.md."""

    http: int
    meaning: str


TABLE: dict[type[AtollError], Row] = {
    AtollError: Row(500, "A fault of the daemon; the log has it under the request id."),
    InvalidArgument: Row(400, "The request is wrong; sending it again cannot help."),
    Unauthenticated: Row(401, "No API key was given, or one that does not exist or was revoked."),
    PermissionDenied: Row(403, "The key is known but may not do this."),
    NotFound: Row(404, "There is no such object in the key's project."),
    AlreadyExists: Row(409, "The name or id is taken."),
    FailedPrecondition: Row(409, "The object is not in a state that allows this."),
    Conflict: Row(409, "Somebody else changed the object first; read it again."),
    LimitExceeded: Row(429, "A limit of the project would be passed."),
    Capacity: Row(503, "The machine has no room for this; nothing was made."),
    Unimplemented: Row(501, "It is not there; the message says why and what to use instead."),
    Unavailable: Row(503, "A part this needs cannot be used now; trying again later may help."),
    RuntimeUnusable: Row(503, "The runtime cannot be used on this machine; the message is the reason."),
    GuestUnreachable: Row(502, "The agent inside the sandbox does not answer."),
    PortNotOpen: Row(502, "The sandbox runs, but nothing listens on that port of it."),
    DeadlineExceeded: Row(504, "It took longer than it was allowed to."),
    Internal: Row(500, "A fault of the daemon; the log has it under the request id."),
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


def internal(request_id: str) -> Internal:
    """What the caller is shown of an exception nobody expected: nothing but where to look."""
    return Internal(f"the daemon failed unexpectedly; its log has the cause under request {request_id}")
