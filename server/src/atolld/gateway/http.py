"""The streaming reverse proxy: an ASGI application for requests that go into a sandbox.

It stands before the API's own routing. A client that goes away closes the sandbox's side at once, and the other way
round; neither side is read faster than the other takes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext

from atolld.core.lifecycle import SandboxState
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock, SystemClock
from atolld.foundation.errors import AtollError, GuestUnreachable, Internal, NotFound, Unauthenticated
from atolld.foundation.ids import SandboxId
from atolld.gateway.activity import Activity
from atolld.gateway.directory import Authenticator, Directory, Endpoint, ErrorRenderer, reachable
from atolld.gateway.e2b import Answer, admit, not_found, preflight, refuse, seen_by_client
from atolld.gateway.errors import SandboxInterrupted, UpstreamBroken
from atolld.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from atolld.gateway.headers import secret_of
from atolld.gateway.pool import Pool
from atolld.gateway.proof import answer_asleep, refusal
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
from atolld.gateway.waking import not_running, wake
from atolld.gateway.wire import EXTENSION, Wire

log = logging.getLogger("atolld.gateway")


class Gateway:
    """Carries requests to agents and ports. `directory` and `authenticator` are asked for every request.

    A sandbox that does not run is woken for a request that may pass. `activity` tells which sandboxes are in use.
    """

    def __init__(
        self,
        directory: Directory,
        authenticator: Authenticator,
        render: ErrorRenderer,
        pool: Pool | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._authenticator = authenticator
        self._render = render
        self._clock = clock or SystemClock()
        self.pool = pool or Pool()
        self.activity = Activity(self._clock.monotonic)

    def sandbox_ended(self, id: SandboxId) -> None:
        """Cut every stream of a sandbox that has ended: its own kernel is gone and will not say goodbye."""
        self.pool.forget(id)

    def sandbox_up(self, id: SandboxId) -> None:
        """It was just made or brought back, so a request is about to come: connect to its agent beforehand."""
        spawn(self._expect(id), name=f"gateway-expect-{id}")

    async def _expect(self, id: SandboxId) -> None:
        endpoint = self._directory.endpoint(id)
        if endpoint is None or endpoint.state is not SandboxState.RUNNING:
            return
        try:
            connection = await self.pool.to_agent(id, endpoint)
        except GuestUnreachable as error:
            log.debug("%s is not connected to beforehand: %s", id, error.message)
            return
        now = self._directory.endpoint(id)
        if now is None or now.state is not SandboxState.RUNNING or now.address != endpoint.address:
            # Its address may by now be another sandbox's.
            connection.abort()
            return
        self.pool.keep_for_first(id, connection)

    def interrupting(self, id: SandboxId) -> Callable[[], None]:
        """Called when the sandbox is about to be saved or frozen, or just was; what it returns, afterwards.

        Then the streams are cut that were open at the first call: to the guest they have ended, or it answers nothing.
        What may be sent twice is sent again once the sandbox runs.
        """
        why = SandboxInterrupted("the sandbox was saved or frozen while the request was in flight, which cut it")
        return self.pool.cutter(id, why)

    def close(self) -> None:
        """Cut every stream."""
        self.pool.close()

    async def serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Answer one HTTP request that `route.is_data_plane` said yes to."""
        wire: Wire | None = scope.get("extensions", {}).get(EXTENSION)
        exchange: Exchange | None = None
        route: Route | None = None
        try:
            if (asked := preflight(scope["method"], scope["headers"], request_id)) is not None and _for_agent(scope):
                await _answer(asked, send)
                return
            route = await self._route(scope)
            endpoint = await self._admit(scope, route)
            refused = refusal(
                route, endpoint, scope["method"], scope["query_string"], scope["headers"], self._clock.now()
            )
            if endpoint.state is not SandboxState.RUNNING:
                told = answer_asleep(route, endpoint, scope["method"], refused, request_id)
                if told is not None:
                    await _answer(told, send)
                    return
            # Begun before the sandbox is woken, so that it is not put to sleep again before the request gets there.
            with self.activity.in_flight(route.sandbox_id) if refused is None else nullcontext():
                if endpoint.state is not SandboxState.RUNNING:
                    endpoint = await wake(self._directory, route)
                exchange = Exchange(scope, receive, send, route, endpoint, self._directory, self.pool, request_id, wire)
                await exchange.run()
        except ClientGone:
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
        exchange: Exchange | None,
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
        if exchange is not None:
            # Before there is one, an error is of the waking, and says itself what is the matter.
            endpoint = self._directory.endpoint(route.sandbox_id) if route is not None else None
            error = seen_by_client(error, route, endpoint)
        await _answer(refuse(error, sandbox_id or "", request_id), send)

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
                "invalid signature: the request names no sandbox, and none has signed it; send the header "
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
        if not reachable(endpoint):
            raise not_running(route.sandbox_id, endpoint)
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
