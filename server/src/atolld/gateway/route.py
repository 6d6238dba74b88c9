"""From a request's path, host or headers to the sandbox and port it is for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import SandboxId, parse_sandbox_id

AGENT_PORT = 49983

_NATIVE = re.compile(rb"/v1/sandboxes/([^/]*)/(agent|ports)(?:/(.*))?", re.DOTALL)
# Old clients put a client's id behind the sandbox's.
_HOST = re.compile(r"(\d{1,5})-([a-z][0-9a-z]{19})(?:-[0-9a-z]+)?\.[a-z0-9.-]+(?::\d+)?", re.IGNORECASE)
_OF_THE_API = re.compile(rb"/(?:v2/)?sandboxes(?:/|$)")
_AGENT_PORT = b"%d" % AGENT_PORT
FILES = b"/files"
_TELLING = frozenset((b"e2b-sandbox-id", b"e2b-sandbox-port", b"host", b"x-api-key", b"x-access-token"))
_UNSAFE_TARGET = re.compile(rb"[\x00-\x20\x7f-\xff]")


class Door(StrEnum):
    """Which convention a request came by; it decides who may pass and what is done to the headers."""

    NATIVE_AGENT = "native_agent"
    NATIVE_PORT = "native_port"
    E2B = "e2b"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: `target` is the path for the sandbox (no query), `prefix` what was cut off before it.

    `own_origin`: the host is that of this port of this sandbox alone; what its pages do to their origin hurts nobody.
    """

    door: Door
    sandbox_id: SandboxId
    port: int
    target: bytes
    prefix: bytes = b""
    own_origin: bool = False

    @property
    def to_agent(self) -> bool:
        """Whether the agent itself is meant, and not a program on a port."""
        return self.door is Door.NATIVE_AGENT or (self.door is Door.E2B and self.port == AGENT_PORT)


def is_native(raw_path: bytes) -> bool:
    """Whether the path belongs to the gateway; cheap, asked for every request."""
    return raw_path.startswith(b"/v1/sandboxes/") and _NATIVE.fullmatch(raw_path) is not None


def is_data_plane(raw_path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request is for a sandbox, by its host, its headers or its path; cheap, asked for every request.

    The path `/files` is the agents' alone: who comes without naming a sandbox has a signed URL, which leads to one.
    Old SDKs of E2B's name a sandbox in a request of the API itself (2.21: connect), and name none, but send the agent's
    token, in those for the sandbox after it.
    """
    seen = {name: value for name, value in headers if name in _TELLING}
    if _HOST.fullmatch(seen.get(b"host", b"").decode("latin-1")):
        return True
    if b"e2b-sandbox-id" in seen:
        to_agent = seen.get(b"e2b-sandbox-port", _AGENT_PORT) == _AGENT_PORT
        return not (to_agent and b"x-api-key" in seen and _OF_THE_API.match(raw_path))
    if raw_path == FILES or is_native(raw_path):
        return True
    return b"x-access-token" in seen and b"x-api-key" not in seen


def named(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The sandbox that the host or `E2b-Sandbox-Id` names, whatever text the latter is; None without either."""
    by_header = None
    for name, value in headers:
        if name == b"host" and (match := _HOST.fullmatch(value.decode("latin-1"))):
            return match[2].lower()
        if name == b"e2b-sandbox-id":
            by_header = value.decode("latin-1")[:64]
    return by_header


def parse_native(raw_path: bytes) -> Route:
    """The route of `/v1/sandboxes/{id}/agent/...` or `/v1/sandboxes/{id}/ports/{port}/...`, percent-escapes kept.

    Raises NotFound when the id cannot be one, or for an agent path that only the daemon may call; InvalidArgument for a
    bad port or a path with control or non-ASCII bytes.
    """
    match = _NATIVE.fullmatch(raw_path)
    if match is None:
        raise NotFound("there is no such path")
    if _UNSAFE_TARGET.search(raw_path):
        raise InvalidArgument("the path holds a byte that must be percent-encoded")
    sandbox_id = _sandbox_id(match[1].decode("ascii"))
    rest = match[3] or b""
    if match[2] == b"agent":
        if _is_private(rest):
            raise NotFound("this path of the agent is the daemon's own")
        return Route(Door.NATIVE_AGENT, sandbox_id, AGENT_PORT, b"/" + rest, raw_path[: match.end(2)])
    port_text, _, target = rest.partition(b"/")
    port = _port(port_text.decode("ascii"))
    return Route(Door.NATIVE_PORT, sandbox_id, port, b"/" + target, raw_path[: match.end(2)] + b"/" + port_text)


def parse_host(host: str, raw_path: bytes) -> Route | None:
    """The route of a host `<port>-<sandbox id>.<domain>[:<port>]`; None when `host` has another form.

    Raises InvalidArgument for a port outside 1 to 65535, NotFound for an agent path that only the daemon may call.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    return _e2b(match[2].lower(), _port(match[1]), raw_path, own_origin=True)


def parse_headers(headers: Iterable[tuple[bytes, bytes]], raw_path: bytes) -> Route | None:
    """The route named by `E2b-Sandbox-Id` and `E2b-Sandbox-Port` (default: the agent); None without the first.

    Header names must be in lower case. Raises NotFound for an id that cannot be one or for an agent path that only the
    daemon may call, InvalidArgument for a bad port.
    """
    sandbox_id = port = ""
    for name, value in headers:
        if name == b"e2b-sandbox-id":
            sandbox_id = value.decode("latin-1")
        elif name == b"e2b-sandbox-port":
            port = value.decode("latin-1")
    if not sandbox_id:
        return None
    return _e2b(sandbox_id.partition("-")[0], _port(port) if port else AGENT_PORT, raw_path)


def to_agent_of(sandbox_id: SandboxId, raw_path: bytes) -> Route:
    """The route to the agent of a sandbox that was found by its token. Raises NotFound for paths of the daemon only."""
    return _e2b(sandbox_id, AGENT_PORT, raw_path)


def private(raw_path: bytes) -> NotFound:
    """The error for a path of the agent that only the daemon may call."""
    return NotFound("this path of the agent is the daemon's own", path=raw_path.decode("latin-1")[:80])


def _e2b(sandbox_id: str, port: int, raw_path: bytes, own_origin: bool = False) -> Route:
    if _UNSAFE_TARGET.search(raw_path):
        raise InvalidArgument("the path holds a byte that must be percent-encoded")
    if port == AGENT_PORT and _is_private(raw_path):
        raise private(raw_path)
    return Route(Door.E2B, _sandbox_id(sandbox_id), port, raw_path, own_origin=own_origin)


def _sandbox_id(text: str) -> SandboxId:
    try:
        return parse_sandbox_id(text)
    except InvalidArgument:
        raise NotFound(f"there is no sandbox {text[:40]!r}") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise InvalidArgument(f"{text[:20]!r} is not a port: a number from 1 to 65535 is expected")
    return int(text)


def _is_private(rest: bytes) -> bool:
    # Whatever way the agent may read a path, none that could mean /init passes: it would change the agent's token.
    plain = unquote_to_bytes(rest).strip(b"/").lower()
    return plain == b"init" or b"/../" in plain or b"/./" in plain or plain.startswith((b"../", b"./"))
