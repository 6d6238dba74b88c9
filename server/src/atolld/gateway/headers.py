"""Which headers pass between a client and a sandbox, in either direction. Pure; names are in lower case throughout.

The sandbox is hostile: it never gets a credential of ours, and what it answers cannot act on the API's own origin.

- Towards the sandbox: API keys, the traffic token, cookies and everything hop-by-hop are removed. `Authorization`
  passes to an agent only as Basic (it names the user), to a port only when it is not what the API key came in.
- From an agent: only headers of a short list pass.
- From a port: all pass but hop-by-hop ones, cookies, and those that change how a browser treats the whole origin. A
  Content-Security-Policy puts the page into an origin of its own.
- A port that has a host of its own is left its cookies and its origin; its cookies never reach another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from atolld.foundation.errors import Unauthenticated
from atolld.gateway.route import Door, Route

Headers = list[tuple[bytes, bytes]]

TRAFFIC_TOKEN = b"e2b-traffic-access-token"
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

_NEVER_TO_SANDBOX = HOP_BY_HOP | {b"x-api-key", b"x-access-token", b"host", b"expect", b"content-length"}
_SHARED_ONLY = frozenset((b"cookie", b"set-cookie", b"set-cookie2", b"clear-site-data", b"service-worker-allowed"))
_OURS = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"forwarded")

_FROM_AGENT = frozenset(
    (
        b"accept-ranges",
        b"atoll-replay-gap",
        b"cache-control",
        b"connect-accept-encoding",
        b"connect-content-encoding",
        b"content-disposition",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"etag",
        b"last-modified",
        b"retry-after",
        b"vary",
    )
)
_NEVER_FROM_PORT = HOP_BY_HOP | {
    b"alt-svc",
    b"clear-site-data",
    b"public-key-pins",
    b"service-worker-allowed",
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"x-request-id",
}

AGENT_POLICY = (b"content-security-policy", b"sandbox; default-src 'none'")
PORT_POLICY = (
    b"content-security-policy",
    b"sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads",
)
NO_SNIFF = (b"x-content-type-options", b"nosniff")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_KEY_PREFIXES = (b"e2b_", b"atoll_")
_COOKIE_DOMAIN = re.compile(rb";\s*domain\s*=[^;]*", re.IGNORECASE)

# E2B's clients run in browsers too; their keys are headers and not cookies, so every origin may ask.
ANY_ORIGIN = ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*"))


@dataclass(frozen=True, slots=True)
class Client:
    """Who asked, as the sandbox's program is told. `scheme`: http or https."""

    address: str
    host: bytes
    scheme: bytes


def secret_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The API key of a request: `X-API-Key`, or else `Authorization: Bearer`. Raises Unauthenticated without one."""
    bearer = b""
    for name, value in headers:
        if name == b"x-api-key" and value:
            return value.decode("latin-1").strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    if not bearer:
        raise Unauthenticated("no API key was sent: put it into the header X-API-Key or 'Authorization: Bearer <key>'")
    return bearer.decode("latin-1")


def request_head(
    method: bytes,
    route: Route,
    query: bytes,
    headers: Headers,
    client: Client,
    *,
    token: str | None,
    upgrade: bytes | None,
    mask_host: str | None = None,
) -> tuple[bytes, bool]:
    """The request's head as the sandbox gets it, without the framing of its body and without the empty line.

    Also tells whether the client frames its body by chunks. `token`: the agent's, used for the agent only; None: the
    client sends its own. `mask_host`: the `Host` that a port sees, `${PORT}` standing for its number; None: the one
    that the client used, or `localhost` when that is the API's own.
    """
    to_agent = route.to_agent
    by_e2b = route.door is Door.E2B
    dropped = _NEVER_TO_SANDBOX.union(_OURS, _named_by_connection(headers))
    dropped |= {TRAFFIC_TOKEN} if route.own_origin else {TRAFFIC_TOKEN, b"cookie"}
    if token is None or (by_e2b and not to_agent):
        dropped -= {b"x-access-token"}
    # E2B's clients send no API key into a sandbox, so what they authorize with is meant for the program there.
    has_key_header = by_e2b or any(name == b"x-api-key" and value for name, value in headers)
    chunked = False
    target = route.target + b"?" + query if query else route.target
    host = b"agent" if to_agent else _host(route, client, mask_host)
    parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    for name, value in headers:
        if name == b"transfer-encoding":
            chunked = True
        if name in dropped:
            continue
        if name == b"authorization" and not _may_pass(value, to_agent, has_key_header):
            continue
        parts += (name, b": ", value, b"\r\n")
    if to_agent:
        parts += (b"x-access-token: ", token.encode("latin-1"), b"\r\n") if token is not None else ()
    else:
        parts += (b"x-forwarded-for: ", client.address.encode("latin-1"), b"\r\n")
        parts += (b"x-forwarded-host: ", client.host, b"\r\nx-forwarded-proto: ", client.scheme, b"\r\n")
        parts += (b"x-forwarded-prefix: ", route.prefix, b"\r\n") if route.prefix else ()
    if upgrade is not None:
        parts += (b"connection: upgrade\r\nupgrade: ", upgrade, b"\r\n")
    return b"".join(parts), chunked


def response_headers(route: Route, headers: Headers, client: Client, *, with_length: bool) -> Headers:
    """What the client gets of a sandbox's headers; `with_length`: whether a content length may pass."""
    if route.to_agent:
        kept = [pair for pair in headers if pair[0] in _FROM_AGENT and _sound(pair)]
        kept += (AGENT_POLICY, NO_SNIFF)
        kept += ANY_ORIGIN if route.door is Door.E2B else ()
    else:
        dropped = _NEVER_FROM_PORT | _named_by_connection(headers)
        if route.own_origin:
            dropped -= _SHARED_ONLY
        kept = [pair for pair in headers if pair[0] not in dropped and _sound(pair)]
        kept = [
            (name, _relocated(value, route, client)) if name == b"location" else (name, value) for name, value in kept
        ]
        if route.own_origin:
            kept = [
                (name, _COOKIE_DOMAIN.sub(b"", value)) if name == b"set-cookie" else (name, value)
                for name, value in kept
            ]
        else:
            kept.append(PORT_POLICY)
    if not with_length:
        kept = [pair for pair in kept if pair[0] != b"content-length"]
    return kept


def upgrade_of(headers: Headers) -> bytes | None:
    """The protocol a request asks to change to, None when it does not ask."""
    upgrade = None
    asked = False
    for name, value in headers:
        if name == b"upgrade":
            upgrade = value
        elif name == b"connection":
            asked = asked or b"upgrade" in value.lower()
    return upgrade if asked else None


def _host(route: Route, client: Client, mask: str | None) -> bytes:
    if mask is not None:
        return mask.replace("${PORT}", str(route.port)).encode("ascii")
    return client.host if route.door is Door.E2B else b"localhost:%d" % route.port


def _may_pass(value: bytes, to_agent: bool, has_key_header: bool) -> bool:
    scheme, _, credentials = value.partition(b" ")
    if to_agent:
        return scheme.lower() == b"basic"
    return has_key_header and not credentials.strip().startswith(_KEY_PREFIXES)


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    named = [value.lower() for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(token.strip() for value in named for token in value.split(b","))


def _sound(pair: tuple[bytes, bytes]) -> bool:
    return _NAME.fullmatch(pair[0]) is not None and _BAD_VALUE.search(pair[1]) is None


def _own_cookie(value: bytes) -> bytes:
    # With a domain it would be sent to the hosts of other sandboxes as well.
    return _COOKIE_DOMAIN.sub(b"", value)


def _relocated(value: bytes, route: Route, client: Client) -> bytes:
    # A program that redirects to its own root does not know that it lives below a prefix.
    for origin in (b"http://localhost:%d" % route.port, client.scheme + b"://" + client.host):
        if value.startswith(origin + b"/"):
            value = value[len(origin) :]
    inside = value.startswith(b"/") and not value.startswith((b"//", route.prefix + b"/"))
    return route.prefix + value if inside else value
