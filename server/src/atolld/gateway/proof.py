"""What the agent would say to a request's token or signature, told without asking it. Pure.

A sandbox that does not run is not woken for a request that its agent would refuse, and such a request is no use of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import Unauthenticated
from atolld.gateway.directory import Endpoint
from atolld.gateway.e2b import Answer, not_found
from atolld.gateway.headers import ANY_ORIGIN
from atolld.gateway.route import FILES, Door, Route
from atolld.gateway.signature import parse

# The agent's own texts; clients compare them.
NO_TOKEN = "unauthorized access, please provide a valid access token or method signing if supported"
WRONG_TOKEN = "access token present in header but does not match"
NO_SIGNATURE = "missing signature query parameter"
BAD_SIGNATURE = "invalid signature"
SIGNATURE_OVER = "signature is already expired"


def refusal(
    route: Route,
    endpoint: Endpoint,
    method: str,
    query: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    now_s: float,
) -> str | None:
    """Why the agent would refuse; None when it would not. `now_s`: Unix seconds, for signatures that run out.

    Whoever was admitted to a port, or with an API key, passes. `GET /health`, which the agent answers to everybody,
    needs the token here: a probe by nobody in particular is no use.
    """
    if route.door is not Door.E2B or not route.to_agent or not endpoint.secure:
        return None
    given = next((value for name, value in headers if name == b"x-access-token"), b"")
    signable = route.target == FILES
    if given:
        if hmac.compare_digest(given, endpoint.agent_token.encode()):
            return None
        return WRONG_TOKEN if signable else NO_TOKEN
    return _unsigned(endpoint, method, query, now_s) if signable else NO_TOKEN


def answer_asleep(route: Route, endpoint: Endpoint, method: str, refused: str | None, request_id: str) -> Answer | None:
    """The answer to a request for a sandbox that does not run which must not wake it; None: it is to be woken.

    Raises NotFound for `GET /health` of one that is paused or being paused, by which E2B's clients tell that it does
    not run, and Unauthenticated with the text of `refused`.
    """
    health = route.door is Door.E2B and route.to_agent and route.target == b"/health" and method in ("GET", "HEAD")
    if health and endpoint.state in (SandboxState.PAUSED, SandboxState.PAUSING):
        raise not_found()
    if refused is None:
        return None
    if not health:
        raise Unauthenticated(refused)
    if endpoint.state is not SandboxState.FROZEN:
        raise not_found()
    # What its agent would say: a frozen sandbox counts as a running one.
    return Answer(204, [(b"x-request-id", request_id.encode()), *ANY_ORIGIN], b"")


def _unsigned(endpoint: Endpoint, method: str, query: bytes, now_s: float) -> str | None:
    if not any(pair.startswith(b"signature=") for pair in query.split(b"&")):
        return NO_SIGNATURE
    claim = parse(method, query)
    if claim is None or not claim.made_with(endpoint.agent_token):
        return BAD_SIGNATURE
    return SIGNATURE_OVER if claim.over(now_s) else None
