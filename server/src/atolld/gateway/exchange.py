"""One request and its answer, carried between the client and the sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from atolld.foundation.aio import spawn
from atolld.foundation.errors import GuestUnreachable, NotFound
from atolld.gateway.directory import ASLEEP, Directory, Endpoint
from atolld.gateway.errors import SandboxInterrupted, UpstreamBroken
from atolld.gateway.headers import Client, request_head, response_headers, upgrade_of
from atolld.gateway.pool import Pool
from atolld.gateway.relay import relay
from atolld.gateway.route import Door, Route
from atolld.gateway.upstream import ResponseHead, UpstreamConnection
from atolld.gateway.waking import wake
from atolld.gateway.wire import Wire

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Asked again on a fresh connection when one turns out to be dead: doing these twice changes nothing.
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))


class ClientGone(Exception):
    """Nobody is left to answer."""


class Exchange:
    """One request and its answer; `started` once the client has got some of it."""

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
        self._connection: UpstreamConnection | None = None
        self._kept = False
        self.started = False

    async def run(self) -> None:
        """Carry it to its end. Raises ClientGone, and what keeps the sandbox from answering."""
        upgrade = upgrade_of(self._scope["headers"])
        if upgrade is not None and self._wire is not None:
            await self._upgrade(upgrade, self._wire)
            return
        head, chunked = self._request_head(None)
        connection = await self._connect()
        try:
            body, more = await self._body_so_far()
            payload = head + self._framing(chunked, bool(body) or more) + _framed(body, chunked, not more)
            again = payload if not body and not more and self._scope["method"] in _REPEATABLE else None
            self._unsent = more
            connection.begin(self._scope["method"].encode(), payload)
            await self._relay(again, chunked, more)
        except BaseException:
            self._abort()
            raise
        # Where the answer came before the request's end, more of it would be taken for the next request.
        if self._connection is not None and self._connection.reusable and not self._unsent:
            self._pool.give_back(self._route.sandbox_id, self._place, self._connection)
        else:
            self._abort()

    async def _body_so_far(self) -> tuple[bytes, bool]:
        """What came with the head, to be sent with it; and whether there may be more."""
        if self._wire is None or not self._wire.body_is_here:
            # The sandbox may want to answer before the client sends a body, so nothing waits for one.
            return b"", True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
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

    async def _connect(self) -> UpstreamConnection:
        id = self._route.sandbox_id
        kept = None
        # Programs close kept connections when they like, so only what can be sent again goes over one.
        if self._route.to_agent or self._scope["method"] in _REPEATABLE:
            kept = self._pool.idle(id, self._place)
        else:
            self._pool.close_idle(id, self._place)
        self._kept = kept is not None
        self._connection = kept or await self._fresh()
        return self._connection

    async def _fresh(self) -> UpstreamConnection:
        """A new connection to where the sandbox runs now; it is woken if it has stopped running meanwhile."""
        try:
            connection = await self._dial()
        except GuestUnreachable as error:
            # Nothing of the request was sent, so any method may be tried again.
            if not (isinstance(error, SandboxInterrupted) or self._is_away()):
                raise
        else:
            if not self._is_away():
                return connection
            # Its old address may by now be another sandbox's, which must see nothing of this request.
            connection.abort()
        self._endpoint = await wake(self._directory, self._route)
        connection = await self._dial()
        if self._is_away():
            connection.abort()
            raise GuestUnreachable("the sandbox stopped running again while it was being reached; try again")
        return connection

    async def _dial(self) -> UpstreamConnection:
        id, endpoint = self._route.sandbox_id, self._endpoint
        if self._route.to_agent:
            connection = await self._pool.to_agent(id, endpoint)
        else:
            connection = await self._pool.to_port(id, endpoint, self._route.port)
        if self._directory.endpoint(id) is None:
            connection.abort()
            raise NotFound(f"sandbox {id} has ended")
        return connection

    def _is_away(self) -> bool:
        """Whether the sandbox lives, but does not run any more where this exchange knows it."""
        now = self._directory.endpoint(self._route.sandbox_id)
        return now is not None and (now.state in ASLEEP or now.address != self._endpoint.address)

    async def _answer_head(self, again: bytes | None) -> ResponseHead:
        """The answer's head. `again`: the whole request, if it may be sent once more on another connection."""
        assert self._connection is not None
        try:
            return await self._connection.response_head()
        except GuestUnreachable as error:
            if again is None or self._client_gone or not self._is_worth_another(error):
                raise
            self._abort()
            self._connection = await self._fresh()
        if self._client_gone:
            raise ClientGone
        self._connection.begin(self._scope["method"].encode(), again)
        return await self._connection.response_head()

    def _is_worth_another(self, error: GuestUnreachable) -> bool:
        if self._kept and isinstance(error, UpstreamBroken) and error.nothing_received:
            return True
        return isinstance(error, SandboxInterrupted) or self._is_away()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def _relay(self, again: bytes | None, chunked: bool, more: bool) -> None:
        pump = spawn(self._pump(chunked, more), name="gateway-pump", report=False)
        try:
            head = await self._answer_head(again)
            if head.status == 101:
                raise UpstreamBroken("the sandbox changed the protocol without being asked")
            await self._start(head)
            await self._answer_body()
        except GuestUnreachable:
            if self._client_gone:
                raise ClientGone from None
            raise
        finally:
            pump.cancel()

    async def _answer_body(self) -> None:
        assert self._connection is not None
        while chunk := await self._connection.read():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _pump(self, chunked: bool, more: bool) -> None:
        """Carry the request's body, then watch for the client's going away."""
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._client_gone = True
                    self._abort()
                    return
                if more and self._connection is not None:
                    self._unsent = more = message.get("more_body", False)
                    await self._connection.write(_framed(message.get("body", b""), chunked, not more))
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
        head = self._request_head(upgrade)[0] + b"\r\n"
        connection = await self._connect()
        try:
            connection.begin(b"GET", head)
            answer = await self._answer_head(head if self._scope["method"] in _REPEATABLE else None)
            headers = response_headers(self._route, answer.headers, self._client(), with_length=answer.status != 101)
            if answer.status != 101:
                await self._start(answer)
                await self._answer_body()
                self._abort()
                return
        except BaseException:
            self._abort()
            raise
        self.started = True
        parts = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ", upgrade, b"\r\n"]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        assert self._connection is not None
        await relay(wire.take_over(b"".join((*parts, b"\r\n"))), self._connection.detach())


def _framed(body: bytes, chunked: bool, last: bool) -> bytes:
    if not chunked:
        return body
    framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return framed + b"0\r\n\r\n" if last else framed
