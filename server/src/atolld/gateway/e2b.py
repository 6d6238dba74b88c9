"""E2B's own terms for requests into a sandbox: who may pass, and the bodies of refusals. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import AtollError, InvalidArgument, NotFound, PermissionDenied, PortNotOpen
from atolld.gateway.directory import Endpoint
from atolld.gateway.route import Route

TRAFFIC_TOKEN = "e2b-traffic-access-token"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as an HTTP answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def admit(route: Route, endpoint: Endpoint | None, headers: Iterable[tuple[bytes, bytes]]) -> Endpoint:
    """The endpoint, if the request may go there; the agent itself looks at its access token.

    Raises NotFound, or PermissionDenied when a port needs the traffic token and it is missing or wrong.
    """
    if endpoint is None or endpoint.state is not SandboxState.RUNNING:
        raise NotFound("The sandbox was not found")
    if route.to_agent or endpoint.allow_public_traffic:
        return endpoint
    given = next((value for name, value in headers if name == TRAFFIC_TOKEN.encode()), b"")
    if not given:
        raise PermissionDenied(
            f"Sandbox is secured with traffic access token. Token header '{TRAFFIC_TOKEN}' is missing"
        )
    if not hmac.compare_digest(given, (endpoint.traffic_token or "").encode()):
        raise PermissionDenied(
            f"Sandbox is secured with traffic access token. Provided token in header '{TRAFFIC_TOKEN}' is invalid"
        )
    return endpoint


def refuse(error: AtollError, sandbox_id: str, request_id: str) -> Refusal:
    """`error` in the form that E2B's clients know from its proxy: what is not there is a bad gateway."""
    status = {PermissionDenied.code: 403, InvalidArgument.code: 400}.get(error.code, 502)
    if "path" in error.details:
        status = 404
    body: dict[str, object] = {"sandboxId": sandbox_id, "message": error.message, "code": status}
    if isinstance(error, PortNotOpen):
        body |= {"message": "The sandbox is running but port is not open", "port": error.details.get("port")}
    encoded = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(encoded)).encode()),
        (b"x-request-id", request_id.encode()),
    ]
    return Refusal(status, headers, encoded)
