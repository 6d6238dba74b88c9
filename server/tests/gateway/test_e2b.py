"""Requests that E2B's headers route: who may pass, what the sandbox gets, and how refusals look."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import InvalidArgument, NotFound, PermissionDenied, PortNotOpen
from atolld.foundation.ids import SandboxId
from atolld.gateway.e2b import admit, refuse
from atolld.gateway.route import Door, Route

from .conftest import ID, TOKEN, Edge, FakeEndpoint, answer

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OPEN = FakeEndpoint("10.0.0.2")
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


@pytest.mark.parametrize("state", [state for state in SandboxState if state is not SandboxState.RUNNING])
def test_what_does_not_run_is_not_found(state: SandboxState) -> None:
    for endpoint in (None, replace(OPEN, state=state)):
        with pytest.raises(NotFound, match="The sandbox was not found"):
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
