"""What is told of a token or a signature without the agent, and what a probe hears of a sandbox that does not run."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote

import pytest

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import NotFound, Unauthenticated
from atolld.foundation.ids import SandboxId
from atolld.gateway import proof
from atolld.gateway.proof import answer_asleep, refusal
from atolld.gateway.route import AGENT_PORT, Door, Route

from .conftest import ID, TOKEN, FakeEndpoint

SECURE = FakeEndpoint("10.0.0.2")
OPEN = replace(SECURE, secure=False)
NOW_S = 1_700_000_000.5


def route(target: bytes = b"/x", door: Door = Door.E2B, port: int = AGENT_PORT) -> Route:
    return Route(door, SandboxId(ID), port, target)


def signed(operation: str = "read", end: str = "", token: str = TOKEN) -> bytes:
    text = f"/a:{operation}::{token}" + (f":{end}" if end else "")
    signature = "v1_" + b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
    query = f"path=/a&signature={quote(signature, safe='')}"
    return (query + (f"&signature_expiration={end}" if end else "")).encode()


@pytest.mark.parametrize(
    ("given", "target", "token", "wanted"),
    [
        (SECURE, b"/x", TOKEN, None),
        (SECURE, b"/x", "wrong", proof.NO_TOKEN),
        (SECURE, b"/x", TOKEN + "2", proof.NO_TOKEN),
        (SECURE, b"/x", "", proof.NO_TOKEN),
        (SECURE, b"/x", "\xff", proof.NO_TOKEN),
        (SECURE, b"/health", "", proof.NO_TOKEN),
        (SECURE, b"/health", TOKEN, None),
        (SECURE, b"/files", TOKEN, None),
        (SECURE, b"/files", "wrong", proof.WRONG_TOKEN),
        (SECURE, b"/files", "", proof.NO_SIGNATURE),
        (OPEN, b"/x", "wrong", None),
        (OPEN, b"/health", "", None),
    ],
)
def test_tokens(given: FakeEndpoint, target: bytes, token: str, wanted: str | None) -> None:
    headers = [(b"x-access-token", token.encode("latin-1"))] if token else []
    assert refusal(route(target), given, "GET", b"", headers, NOW_S) == wanted


@pytest.mark.parametrize("one", [route(port=80), route(door=Door.NATIVE_AGENT), route(door=Door.NATIVE_PORT, port=80)])
def test_who_was_admitted_in_another_way_passes(one: Route) -> None:
    assert refusal(one, SECURE, "GET", b"", [], NOW_S) is None


@pytest.mark.parametrize(
    ("method", "query", "wanted"),
    [
        ("GET", signed(), None),
        ("HEAD", signed(), None),
        ("POST", signed("write"), None),
        ("POST", signed(), proof.BAD_SIGNATURE),
        ("PUT", signed(), proof.BAD_SIGNATURE),
        ("GET", signed(token="another"), proof.BAD_SIGNATURE),
        ("GET", b"path=/a&signature=v1_no", proof.BAD_SIGNATURE),
        ("GET", b"path=/a", proof.NO_SIGNATURE),
        ("GET", signed(end="1700000000"), None),
        ("GET", signed(end="1699999999"), proof.SIGNATURE_OVER),
        ("GET", signed(end="-1"), proof.SIGNATURE_OVER),
        ("GET", signed(token="another", end="1"), proof.BAD_SIGNATURE),
    ],
)
def test_signatures(method: str, query: bytes, wanted: str | None) -> None:
    assert refusal(route(b"/files"), SECURE, method, query, [], NOW_S) == wanted
    # They are good for files alone, and not beside a wrong token.
    assert refusal(route(b"/metrics"), SECURE, method, query, [], NOW_S) == proof.NO_TOKEN
    wrong = [(b"x-access-token", b"wrong")]
    assert refusal(route(b"/files"), SECURE, method, query, wrong, NOW_S) == proof.WRONG_TOKEN


WAKE, NO, GONE, YES = "wake", "401", "gone", "204"


@pytest.mark.parametrize(
    ("state", "probe", "probe_by_nobody"),
    [
        (SandboxState.FROZEN, WAKE, YES),
        (SandboxState.PAUSING, GONE, GONE),
        (SandboxState.PAUSED, GONE, GONE),
        (SandboxState.RESUMING, WAKE, GONE),
    ],
)
def test_what_is_said_without_waking(state: SandboxState, probe: str, probe_by_nobody: str) -> None:
    def said(one: Route, method: str, refused: str | None) -> str:
        try:
            answer = answer_asleep(one, replace(SECURE, state=state), method, refused, "req_1")
        except NotFound:
            return GONE
        except Unauthenticated as error:
            assert error.message == refused
            return NO
        return str(answer.status) if answer is not None else WAKE

    health = route(b"/health")
    for method in ("GET", "HEAD"):
        assert said(health, method, None) == probe
        assert said(health, method, proof.NO_TOKEN) == probe_by_nobody
    assert said(health, "POST", proof.NO_TOKEN) == NO
    assert said(route(), "GET", proof.NO_TOKEN) == NO
    for other in (route(), route(b"/health", Door.NATIVE_AGENT), route(b"/health", port=80)):
        assert said(other, "GET", None) == WAKE
