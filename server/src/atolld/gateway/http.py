"""The streaming reverse proxy: an ASGI application for requests that go into a sandbox.

It stands before the API's own routing. A client that goes away closes the sandbox's side at once, and the other way
round; neither side is read faster than the other takes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from atolld.core.lifecycle import SandboxState
from atolld.foundation.aio import spawn
from atolld.foundation.errors import AtollError, FailedPrecondition, Internal, NotFound, Unauthenticated
from atolld.foundation.ids import SandboxId
from atolld.gateway.directory import Authenticator, Directory, Endpoint, ErrorRenderer
from atolld.gateway.e2b import Answer, admit, not_found, preflight, refuse, seen_by_client
from atolld.gateway.errors import UpstreamBroken
from atolld.gateway.headers import Client, request_head, response_headers, secret_of, upgrade_of
from atolld.gateway.pool import Pool
from atolld.gateway.relay import relay
from atolld.gateway.route import (
    FILES,
    Door,
    Route,
    is_native,
    named,
    parse_headers,
    parse_host,
    parse_native,
    private,
    to_agent_of,
)
from atolld.gateway.signature import find, parse
from atolld.gateway.upstream import ResponseHead, UpstreamConnection
from atolld.gateway.wire import EXTENSION, Wire

log = logging.getLogger("atolld.gateway")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Asked again on a fresh connection when a kept one turns out to be dead: doing these twice changes nothing.
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))


class _ClientGone(Exception):
    """Nobody is left to answer."""


class Gateway:
    """Carries requests to agents and ports. `directory` and `authenticator` are asked for every request."""

    def __init__(
        self, directory: Directory, authenticator: Authenticator, render: ErrorRenderer, pool: Pool | None = None
    ) -> None:
        self._directory = directory
        self._authenticator = authenticator
        self._render = render
        self.pool = pool or Pool()

    def sandbox_ended(self, id: SandboxId) -> None:
        """Cut every stream of a sandbox that has ended: its own kernel is gone and will not say goodbye."""
        self.pool.forget(id)

    def close(self) -> None:
        """Cut every stream."""
        self.pool.close()

    async def serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Answer one HTTP request that `route.is_data_plane` said yes to."""
        wire: Wire | None = scope.get("extensions", {}).get(EXTENSION)
        exchange: _Exchange | None = None
        route: Route | None = None
        try:
            if (asked := preflight(scope["method"], scope["headers"], request_id)) is not None and _for_agent(scope):
                await _answer(asked, send)
                return
            route = await self._route(scope)
            endpoint = await self._admit(scope, route)
            exchange = _Exchange(scope, receive, send, route, endpoint, self._directory, self.pool, request_id, wire)
            await exchange.run()
        except _ClientGone:
            log.debug("the client went away")
        except AtollError as error:
            await self._fail(error, scope, route, exchange, send, request_id)
        except Exception:
            if wire is not None and wire.closed:
                # The transport learns of a vanished client before ASGI does, and then refuses to be written to.
                wire.cut()
                return
            log.exception("the gateway failed unexpectedly", extra={"path": scope["path"][:200]})
            message = f"the daemon failed unexpectedly; its log has the cause under request {request_id}"
            await self._fail(Internal(message), scope, route, exchange, send, request_id)

    async def _fail(
        self,
        error: AtollError,
        scope: Scope,
        route: Route | None,
        exchange: _Exchange | None,
        send: Send,
        request_id: str,
    ) -> None:
        if exchange is not None and exchange.started:
            log.info("a stream broke: %s", error.message)
            _cut(scope.get("extensions", {}).get(EXTENSION))
            return
        sandbox_id = named(scope["headers"])
        if sandbox_id is None and is_native(scope["raw_path"]):
            told = self._render(error, request_id)
            await _answer(Answer(told.status, told.headers, told.body), send)
            return
        endpoint = self._directory.endpoint(route.sandbox_id) if route is not None else None
        await _answer(refuse(seen_by_client(error, route, endpoint), sandbox_id or "", request_id), send)

    async def _route(self, scope: Scope) -> Route:
        path = scope["raw_path"]
        if scope["method"] == "CONNECT":
            # To the agent this would be a way to every port of the sandbox, past what its policy says.
            raise private(path)
        if (route := _named_route(scope)) is not None:
            return route
        if is_native(path):
            return parse_native(path)
        return to_agent_of(await self._unnamed(scope), path)

    async def _unnamed(self, scope: Scope) -> SandboxId:
        """The sandbox of a request for an agent that names none but has its token, or a signature made with it."""
        token = next((value for name, value in scope["headers"] if name == b"x-access-token"), b"")
        if token or scope["raw_path"] != FILES:
            found = self._directory.by_token(token.decode("latin-1"))
            if found is None:
                raise not_found()
            return found
        claim = parse(scope["method"], scope["query_string"])
        found = await find(claim, self._directory.agent_tokens()) if claim is not None else None
        if found is None:
            raise Unauthenticated(
                "invalid signature: the request names no sandbox, and no running one has signed it; send the header "
                "E2b-Sandbox-Id, or use a signed URL"
            )
        return found

    async def _admit(self, scope: Scope, route: Route) -> Endpoint:
        if route.door is Door.E2B:
            return admit(route, self._directory.endpoint(route.sandbox_id), scope["headers"])
        principal = await self._authenticator.authenticate(secret_of(scope["headers"]))
        endpoint = self._directory.endpoint(route.sandbox_id)
        if endpoint is None or endpoint.project_id != principal.project_id:
            raise NotFound(f"there is no live sandbox {route.sandbox_id}")
        if endpoint.state is not SandboxState.RUNNING:
            raise FailedPrecondition(f"sandbox {route.sandbox_id} is {endpoint.state.value}, not running")
        return endpoint


def _cut(wire: Wire | None) -> None:
    # An answer that is cut short must look cut short: without its last chunk, or shorter than its length.
    if wire is None:
        raise UpstreamBroken("the sandbox broke off its answer")
    wire.cut()


def _for_agent(scope: Scope) -> bool:
    """Whether a request is for an agent by E2B's convention, so that a browser may ask first."""
    if named(scope["headers"]) is None:
        return not is_native(scope["raw_path"])
    route = _named_route(scope)
    return route is not None and route.to_agent


def _named_route(scope: Scope) -> Route | None:
    headers, path = scope["headers"], scope["raw_path"]
    host = next((value for name, value in headers if name == b"host"), b"")
    return parse_host(host.decode("latin-1"), path) or parse_headers(headers, path)


async def _answer(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        endpoint: Endpoint,
        directory: Directory,
        pool: Pool,
        request_id: str,
        wire: Wire | None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._route = route
        self._endpoint = endpoint
        self._directory = directory
        self._pool = pool
        self._request_id = request_id
        self._wire = wire
        self._client_gone = False
        self._unsent = False
        self.started = False

    async def run(self) -> None:
        upgrade = upgrade_of(self._scope["headers"])
        if upgrade is not None and self._wire is not None:
            await self._upgrade(upgrade, self._wire)
            return
        head, chunked = self._request_head(None)
        connection, reused = await self._connect()
        try:
            body, more = await self._body_so_far()
            payload = head + self._framing(chunked, bool(body) or more) + _framed(body, chunked, not more)
            repeatable = reused and not body and not more and self._scope["method"] in _REPEATABLE
            self._unsent = more
            connection.begin(self._scope["method"].encode(), payload)
            if repeatable:
                connection = await self._once_more_if_stale(connection, payload)
            await self._relay(connection, chunked, more)
        except BaseException:
            connection.abort()
            raise
        # Where the answer came before the request's end, more of it would be taken for the next request.
        if connection.reusable and not self._unsent:
            self._pool.give_back(self._route.sandbox_id, self._place, connection)
        else:
            connection.abort()

    async def _body_so_far(self) -> tuple[bytes, bool]:
        """What came with the head, to be sent with it; and whether there may be more."""
        if self._wire is None or not self._wire.body_is_here:
            # The sandbox may want to answer before the client sends a body, so nothing waits for one.
            return b"", True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        return message.get("body", b""), message.get("more_body", False)

    def _request_head(self, upgrade: bytes | None) -> tuple[bytes, bool]:
        scope = self._scope
        return request_head(
            scope["method"].encode(),
            self._route,
            scope["query_string"],
            scope["headers"],
            self._client(),
            token=self._token(),
            upgrade=upgrade,
            mask_host=self._endpoint.mask_request_host,
        )

    def _token(self) -> str | None:
        # Who comes by E2B's convention has the token, or needs none.
        return None if self._route.door is Door.E2B and self._endpoint.secure else self._endpoint.agent_token

    def _client(self) -> Client:
        host = next((value for name, value in self._scope["headers"] if name == b"host"), b"localhost")
        peer = self._scope.get("client")
        return Client(peer[0] if peer else "", host, self._scope.get("scheme", "http").encode())

    def _framing(self, chunked: bool, has_body: bool) -> bytes:
        if chunked:
            return b"transfer-encoding: chunked\r\n\r\n"
        for name, value in self._scope["headers"]:
            if name == b"content-length":
                return b"content-length: %b\r\n\r\n" % value
        return b"\r\n"

    @property
    def _place(self) -> int | None:
        return None if self._route.to_agent else self._route.port

    async def _connect(self) -> tuple[UpstreamConnection, bool]:
        id = self._route.sandbox_id
        # Programs close kept connections when they like, so only what can be sent again goes over one.
        if self._route.to_agent or self._scope["method"] in _REPEATABLE:
            kept = self._pool.idle(id, self._place)
            if kept is not None:
                return kept, True
        else:
            self._pool.close_idle(id, self._place)
        return await self._fresh(), False

    async def _fresh(self) -> UpstreamConnection:
        id, endpoint = self._route.sandbox_id, self._endpoint
        if self._route.to_agent:
            connection = await self._pool.to_agent(id, endpoint)
        else:
            connection = await self._pool.to_port(id, endpoint, self._route.port)
        now = self._directory.endpoint(id)
        if now is None or now.address != endpoint.address:
            # Its address may by now be another sandbox's, which must see nothing of this request.
            connection.abort()
            raise NotFound(f"sandbox {id} has ended")
        return connection

    async def _once_more_if_stale(self, connection: UpstreamConnection, payload: bytes) -> UpstreamConnection:
        try:
            await connection.response_head()
        except UpstreamBroken as error:
            if not error.nothing_received:
                raise
            connection.abort()
            connection = await self._fresh()
            connection.begin(self._scope["method"].encode(), payload)
        return connection

    async def _relay(self, connection: UpstreamConnection, chunked: bool, more: bool) -> None:
        pump = spawn(self._pump(connection, chunked, more), name="gateway-pump", report=False)
        try:
            head = await connection.response_head()
            if head.status == 101:
                raise UpstreamBroken("the sandbox changed the protocol without being asked")
            await self._start(head)
            while chunk := await connection.read():
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        except UpstreamBroken:
            if self._client_gone:
                raise _ClientGone from None
            raise
        finally:
            pump.cancel()

    async def _pump(self, connection: UpstreamConnection, chunked: bool, more: bool) -> None:
        """Carry the request's body, then watch for the client's going away."""
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._client_gone = True
                    connection.abort()
                    return
                if more:
                    self._unsent = more = message.get("more_body", False)
                    await connection.write(_framed(message.get("body", b""), chunked, not more))
        except UpstreamBroken:
            # The reader of the answer gets the same error, or already has the whole answer.
            return

    async def _start(self, head: ResponseHead) -> None:
        with_length = head.length is not None and head.status not in (204, 304)
        headers = response_headers(self._route, head.headers, self._client(), with_length=with_length)
        headers.append((b"x-request-id", self._request_id.encode()))
        self.started = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})

    async def _upgrade(self, upgrade: bytes, wire: Wire) -> None:
        head, _ = self._request_head(upgrade)
        connection, _ = await self._connect()
        try:
            connection.begin(b"GET", head + b"\r\n")
            answer = await connection.response_head()
            headers = response_headers(self._route, answer.headers, self._client(), with_length=answer.status != 101)
            if answer.status != 101:
                await self._start(answer)
                while chunk := await connection.read():
                    await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                await self._send({"type": "http.response.body", "body": b""})
                connection.abort()
                return
        except BaseException:
            connection.abort()
            raise
        self.started = True
        parts = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ", upgrade, b"\r\n"]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        await relay(wire.take_over(b"".join((*parts, b"\r\n"))), connection.detach())


def _framed(body: bytes, chunked: bool, last: bool) -> bytes:
    if not chunked:
        return body
    framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return framed + b"0\r\n\r\n" if last else framed
