"""Requests that E2B's headers route: who may pass, what the sandbox gets, and how refusals look."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote

import pytest

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import AtollError, InvalidArgument, NotFound, PermissionDenied, PortNotOpen
from atolld.foundation.ids import SandboxId
from atolld.gateway.directory import ASLEEP
from atolld.gateway.e2b import admit, preflight, refuse, seen_by_client
from atolld.gateway.errors import SandboxEnded, SandboxInterrupted, UpstreamBroken
from atolld.gateway.route import Door, Route

from .conftest import ID, TOKEN, Edge, FakeEndpoint, answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OPEN = FakeEndpoint("10.0.0.2")
SIGNATURE = quote("v1_" + b64encode(sha256(f"/a:read:user:{TOKEN}".encode()).digest()).decode().rstrip("="), safe="")
CLOSED = replace(OPEN, allow_public_traffic=False, traffic_token="let-me-in")


def route(port: int) -> Route:
    return Route(Door.E2B, SandboxId(ID), port, b"/")


@pytest.mark.parametrize(
    ("endpoint", "port", "token"),
    [(OPEN, 80, b""), (CLOSED, 49983, b""), (CLOSED, 80, b"let-me-in"), (OPEN, 80, b"anything")],
)
def test_who_passes(endpoint: FakeEndpoint, port: int, token: bytes) -> None:
    assert admit(route(port), endpoint, [(b"e2b-traffic-access-token", token)]) is endpoint


@pytest.mark.parametrize("token", [b"", b"wrong", b"let-me-i", b"\xff"])
def test_who_does_not_pass(token: bytes) -> None:
    with pytest.raises(PermissionDenied, match="is invalid" if token else "'e2b-traffic-access-token' is missing"):
        admit(route(80), CLOSED, [(b"e2b-traffic-access-token", token)])
    nobody = replace(CLOSED, traffic_token=None)
    with pytest.raises(PermissionDenied):
        admit(route(80), nobody, [(b"e2b-traffic-access-token", token)])


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        replace(OPEN, state=SandboxState.CREATING),
        replace(OPEN, state=SandboxState.STOPPING),
        replace(OPEN, state=SandboxState.ENDED),
        replace(OPEN, state=SandboxState.PAUSED, auto_resume=False),
    ],
)
def test_what_neither_runs_nor_is_to_be_woken_is_not_found(endpoint: FakeEndpoint | None) -> None:
    with pytest.raises(NotFound, match="The sandbox was not found"):
        admit(route(80), endpoint, [])


@pytest.mark.parametrize("state", sorted(ASLEEP))
def test_what_can_be_woken_is_admitted_with_its_traffic_token_only(state: SandboxState) -> None:
    endpoint = replace(CLOSED, state=state)
    assert admit(route(80), endpoint, [(b"e2b-traffic-access-token", b"let-me-in")]) is endpoint
    with pytest.raises(PermissionDenied):
        admit(route(80), endpoint, [])


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NotFound("The sandbox was not found"), 502, {"message": "The sandbox was not found"}),
        (NotFound("private", path="/init"), 404, {"message": "private"}),
        (PermissionDenied("no"), 403, {"message": "no"}),
        (InvalidArgument("bad port"), 400, {"message": "bad port"}),
        (PortNotOpen("x", port=81), 502, {"message": "The sandbox is running but port is not open", "port": 81}),
    ],
)
def test_refusals(error: NotFound, status: int, body: dict[str, object]) -> None:
    refusal = refuse(error, "i0", "req_1")
    assert refusal.status == status
    assert json.loads(refusal.body) == {"sandboxId": "i0", "code": status, **body}
    assert (b"x-request-id", b"req_1") in refusal.headers


@pytest.mark.parametrize(("secure", "sent"), [(True, ["theirs"]), (False, [TOKEN])])
async def test_an_open_sandbox_is_given_its_token(edge: Edge, secure: bool, sent: list[str]) -> None:
    edge.directory.endpoints[ID] = replace(edge.directory.endpoints[ID], secure=secure)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await edge.sandbox.head(reader)
        writer.write(OK)
        await reader.read()

    edge.sandbox.script = script
    client = await edge.client()
    client.request("GET", "/metrics?a=b", f"E2b-Sandbox-Id: {ID}", "X-Access-Token: theirs", key="")
    assert (await client.response())[0] == 200
    head = edge.sandbox.heads[0].decode()
    assert head.startswith("GET /metrics?a=b HTTP/1.1\r\n")
    assert [line.split(": ")[1] for line in head.lower().split("\r\n") if line.startswith("x-access-token")] == [
        one.lower() for one in sent
    ]


@pytest.mark.parametrize(
    ("headers", "path", "status", "message"),
    [
        (["e2b-sandbox-id: izzzzzzzzzzzzzzzzzzz"], "/health", 502, "The sandbox was not found"),
        (["e2b-sandbox-id: x"], "/health", 502, "there is no sandbox 'x'"),
        ([f"e2b-sandbox-id: {ID}"], "/init", 404, "this path of the agent is the daemon's own"),
        ([f"e2b-sandbox-id: {ID}", "e2b-sandbox-port: 0"], "/", 400, "'0' is not a port"),
        ([f"e2b-sandbox-id: {ID}", "e2b-sandbox-port: 8080"], "/", 403, "'e2b-traffic-access-token' is missing"),
    ],
)
async def test_what_is_refused(edge: Edge, headers: list[str], path: str, status: int, message: str) -> None:
    edge.directory.endpoints[ID] = replace(
        edge.directory.endpoints[ID], allow_public_traffic=False, traffic_token="let-me-in"
    )
    client = await edge.client()
    client.request("GET", path, *headers, key="")
    got, _, body = await client.response()
    told = json.loads(body)
    assert (got, told["code"]) == (status, status) and message in told["message"]
    assert edge.sandbox.connections == 0


@pytest.mark.parametrize(
    ("token", "path", "status"), [(TOKEN, "/x", 200), (TOKEN, "/init", 404), ("wrong", "/x", 502), ("", "/x", 502)]
)
async def test_the_agents_token_leads_to_it(edge: Edge, token: str, path: str, status: int) -> None:
    edge.sandbox.script = answer(OK)
    client = await edge.client()
    client.request("GET", path, f"x-access-token: {token}", key="")
    got, _, body = await client.response()
    assert got == status
    if status == 502:
        assert json.loads(body) == {"sandboxId": "", "message": "The sandbox was not found", "code": 502}


@pytest.mark.parametrize(
    ("error", "endpoint", "message"),
    [
        (SandboxEnded("x"), OPEN, "The sandbox was not found"),
        (UpstreamBroken("x"), None, "The sandbox was not found"),
        (UpstreamBroken("x"), replace(OPEN, state=SandboxState.CREATING), "The sandbox was not found"),
        (UpstreamBroken("x"), OPEN, "The sandbox is running but port is not open"),
        (UpstreamBroken("x"), replace(OPEN, state=SandboxState.FROZEN), "The sandbox is running but port is not open"),
        (SandboxInterrupted("saved"), OPEN, "saved"),
        (SandboxInterrupted("saved"), replace(OPEN, state=SandboxState.PAUSED), "The sandbox was not found"),
        (PermissionDenied("as it was"), None, "as it was"),
    ],
)
def test_errors_as_its_proxy_sees_them(error: AtollError, endpoint: FakeEndpoint | None, message: str) -> None:
    assert seen_by_client(error, route(81), endpoint).message == message


def test_a_browser_may_call_an_agent_from_any_page_with_any_header() -> None:
    asked = [(b"access-control-request-method", b"POST"), (b"access-control-request-headers", b"authorization,x-a")]
    answer = preflight("OPTIONS", asked, "req_1")
    assert answer is not None and answer.status == 204
    assert dict(answer.headers)[b"access-control-allow-headers"] == b"authorization,x-a"
    assert preflight("GET", asked, "req_1") is None
    assert preflight("OPTIONS", [], "req_1") is None


@pytest.mark.parametrize("way", [f"host: 49983-{ID}.sandbox.test", f"e2b-sandbox-id: {ID}", "x-nothing: 1"])
async def test_a_preflight_needs_no_token(edge: Edge, way: str) -> None:
    client = await edge.client()
    query = "/files?signature=" + SIGNATURE
    client.send(f"OPTIONS {query} HTTP/1.1\r\n{way}\r\naccess-control-request-method: GET\r\n\r\n".encode())
    status, headers, _ = await client.response()
    assert (status, headers["access-control-allow-origin"]) == (204, "*")
    assert edge.sandbox.connections == 0


async def test_a_host_leads_to_a_sandbox_before_any_header(edge: Edge) -> None:
    host = f"49983-{ID}.sandbox.test"
    client = await edge.client()
    client.send(f"GET /health HTTP/1.1\r\nhost: {host}\r\ne2b-sandbox-id: i9999999999999999999\r\n\r\n".encode())
    assert (await client.response())[0] == 200


@pytest.mark.parametrize(("target", "status"), [("127.0.0.1:22", 400), ("/x", 404)])
async def test_nobody_tunnels_past_the_policy(edge: Edge, target: str, status: int) -> None:
    client = await edge.client()
    head = f"CONNECT {target} HTTP/1.1\r\nhost: 127.0.0.1:22\r\ne2b-sandbox-id: {ID}\r\n"
    client.send(f"{head}x-access-token: {TOKEN}\r\n\r\n".encode())
    assert (await client.response())[0] == status
    assert edge.sandbox.connections == 0


@pytest.mark.parametrize(("query", "status"), [("signature=" + SIGNATURE, 200), ("", 401), ("signature=v1_no", 401)])
async def test_a_signed_url_leads_to_the_sandbox_that_signed_it(edge: Edge, query: str, status: int) -> None:
    client = await edge.client()
    client.request("GET", f"/files?path=/a&username=user&{query}", key="")
    got, headers, body = await client.response()
    assert got == status and headers["access-control-allow-origin"] == "*"
    if status == 401:
        told = json.loads(body)
        assert told["code"] == 401 and told["message"].startswith("invalid signature")


async def test_a_stream_is_cut_when_its_sandbox_ends_and_the_next_request_tells_why(edge: Edge) -> None:
    edge.sandbox.script = answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client = await edge.client()
    client.request("GET", "/x", f"e2b-sandbox-id: {ID}", key="")
    await client.head()
    await client.reader.readuntil(b"abc\r\n")
    del edge.directory.endpoints[ID]
    edge.gateway.sandbox_ended(SandboxId(ID))
    assert await client.reader.read() == b""
    probe = await edge.client()
    probe.request("GET", "/health", f"e2b-sandbox-id: {ID}", key="")
    status, _, body = await probe.response()
    assert status == 502
    assert json.loads(body) == {"sandboxId": ID, "message": "The sandbox was not found", "code": 502}
