"""E2B's own terms for requests into a sandbox: who may pass, preflights of browsers, the bodies of refusals. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    GuestUnreachable,
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
from atolld.gateway.directory import Endpoint, reachable
from atolld.gateway.errors import SandboxEnded, SandboxInterrupted
from atolld.gateway.headers import ANY_ORIGIN, TRAFFIC_TOKEN
from atolld.gateway.route import Route

_STATUS = {
    PermissionDenied.code: 403,
    InvalidArgument.code: 400,
    Unauthenticated.code: 401,
    NotFound.code: 502,
    GuestUnreachable.code: 502,
    PortNotOpen.code: 502,
    Capacity.code: 503,
    Unavailable.code: 503,
    RuntimeUnusable.code: 503,
    DeadlineExceeded.code: 504,
    FailedPrecondition.code: 409,
    Conflict.code: 409,
    LimitExceeded.code: 429,
    Unimplemented.code: 501,
}
# Those that waiting may cure.
_RETRY_AFTER_S = {Capacity.code: 1, Unavailable.code: 1}
# E2B knows no frozen sandboxes: its clients take them for running ones.
_SEEN_RUNNING = frozenset({SandboxState.RUNNING, SandboxState.FROZEN})
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the gateway's own."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def not_found() -> NotFound:
    """The error for a sandbox that does not run."""
    return NotFound("The sandbox was not found")


def admit(route: Route, endpoint: Endpoint | None, headers: Iterable[tuple[bytes, bytes]]) -> Endpoint:
    """The endpoint, if the request may go there; the agent itself looks at its access token, once it runs.

    Raises NotFound when the sandbox neither runs nor can be woken, or PermissionDenied when a port needs the traffic
    token and it is missing or wrong.
    """
    if endpoint is None or not reachable(endpoint):
        raise not_found()
    if route.to_agent or endpoint.allow_public_traffic:
        return endpoint
    given = next((value for name, value in headers if name == TRAFFIC_TOKEN), b"")
    header = TRAFFIC_TOKEN.decode()
    if not given:
        raise PermissionDenied(f"Sandbox is secured with traffic access token. Token header '{header}' is missing")
    wanted = (endpoint.traffic_token or "").encode()
    if not hmac.compare_digest(given, wanted) or not wanted:
        raise PermissionDenied(
            f"Sandbox is secured with traffic access token. Provided token in header '{header}' is invalid"
        )
    return endpoint


def seen_by_client(error: AtollError, route: Route | None, endpoint: Endpoint | None) -> AtollError:
    """`error` as E2B's proxy would have found it: a sandbox that is not there, or a port that does not answer.

    `endpoint`: what is known of the sandbox after the error.
    """
    if not isinstance(error, GuestUnreachable) or route is None:
        return error
    if isinstance(error, SandboxEnded) or endpoint is None or endpoint.state not in _SEEN_RUNNING:
        return not_found()
    if isinstance(error, SandboxInterrupted):
        return error
    return PortNotOpen("The sandbox is running but port is not open", port=route.port)


def refuse(error: AtollError, sandbox_id: str, request_id: str) -> Answer:
    """`error` in the form that E2B's clients know from its proxy: what is not there is a bad gateway."""
    status = 404 if "path" in error.details else _STATUS.get(error.code, 500)
    body: dict[str, object] = {"sandboxId": sandbox_id, "message": error.message, "code": status}
    if isinstance(error, PortNotOpen):
        body |= {"message": "The sandbox is running but port is not open", "port": error.details.get("port")}
    encoded = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(encoded)).encode()),
        (b"x-request-id", request_id.encode()),
        *ANY_ORIGIN,
    ]
    if error.code in _RETRY_AFTER_S:
        headers.append((b"retry-after", b"%d" % _RETRY_AFTER_S[error.code]))
    return Answer(status, headers, encoded)


def preflight(method: str, headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Answer | None:
    """The answer to a browser that asks whether it may call an agent, from any page and with any header; else None."""
    if method != "OPTIONS":
        return None
    asked = {name: value for name, value in headers if name.startswith(b"access-control-request-")}
    if b"access-control-request-method" not in asked:
        return None
    # A wildcard would leave out Authorization, which names the user.
    allowed = asked.get(b"access-control-request-headers", b"*")
    return Answer(
        204,
        [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", b"7200"),
            (b"vary", b"Access-Control-Request-Headers"),
            (b"x-request-id", request_id.encode()),
        ],
        b"",
    )
