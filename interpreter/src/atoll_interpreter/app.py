"""The HTTP interface, as E2B's code interpreter clients expect it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from atoll_interpreter import agent, kernel
from atoll_interpreter.aio import log, spawn
from atoll_interpreter.claims import Claims
from atoll_interpreter.contexts import Contexts
from atoll_interpreter.errors import Invalid, Refused
from atoll_interpreter.languages import check_variables
from atoll_interpreter.settings import Settings
from atoll_interpreter.streaming import Lines

MAX_BODY_BYTES = 64 * 1024 * 1024
_ASK_ITSELF_S = 2.0


class Interpreter:
    """The routes over one set of contexts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts = Contexts(settings)
        self._ready = False
        self._told_with: str | None = None
        self._claims = Claims(settings.identity_dir, self._claimed)
        self._waking: asyncio.Task[None] | None = None

    def app(self) -> Starlette:
        """The ASGI application; its lifespan starts and ends the kernels."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/execute", self.execute, methods=["POST"]),
                Route("/contexts", self.list_contexts, methods=["GET"]),
                Route("/contexts", self.create_context, methods=["POST"]),
                Route("/contexts/{id}", self.remove_context, methods=["DELETE"]),
                Route("/contexts/{id}/restart", self.restart_context, methods=["POST"]),
            ],
            exception_handlers={Refused: _refused},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        kernel.remove_stale(self._settings.run_dir)
        self._claims.start()
        starting = spawn(self._start(), name="start")
        try:
            yield
        finally:
            self._claims.stop()
            starting.cancel()
            await self._contexts.close()

    async def _start(self) -> None:
        for language in self._settings.started:
            try:
                context = await self._contexts.default(language, ahead=True)
                await context.warm()
            except Refused as error:
                log.error("the default context of %s did not start: %s", language, error.message)
        self._ready = True

    async def health(self, request: Request) -> Response:
        """200 once the default contexts stand."""
        return PlainTextResponse("OK") if self._ready else PlainTextResponse("the kernels are starting", 503)

    async def execute(self, request: Request) -> Response:
        """Run code; the answer is a JSON object a line."""
        body = await _body(request)
        code, context_id, language = (_text(body, name) for name in ("code", "context_id", "language"))
        if code is None:
            raise Invalid("'code' is missing: it is the text to run")
        if context_id and language:
            raise Invalid("Only one of context_id or language can be provided")
        envs = _variables(body, "env_vars")
        check_variables(envs)
        lasting = await self._lasting(request, body)
        context = self._contexts.get(context_id) if context_id else await self._contexts.default(language)
        outbox = context.execute(code, envs, lasting)
        return Lines(outbox, self._settings.keepalive_s)

    def _claimed(self) -> None:
        if self._ready and (self._waking is None or self._waking.done()):
            self._waking = spawn(self._wake(), name="wake")

    async def _wake(self) -> None:
        """In a sandbox that has just started from saved memory: what an execution needs of that memory is brought back
        by running nothing, before the first one comes."""
        for language in self._settings.started[:1]:
            context = await self._contexts.default(language)
            await asyncio.gather(context.warm(), _ask_itself(self._settings), return_exceptions=True)

    async def _lasting(self, request: Request, body: Mapping[str, Any]) -> Mapping[str, str] | None:
        if body.get("sandbox_envs") is not None:
            self._contexts.lasting = _variables(body, "sandbox_envs")
            return self._contexts.lasting
        # They do not change while a sandbox runs, but one that starts from the memory of another has its own, and its
        # own token.
        token = request.headers.get("x-access-token", "")
        if self._told_with != token:
            told = await agent.sandbox_variables(self._settings.agent_url, token)
            if told is None:
                return None
            self._told_with = token
            self._contexts.lasting = told
        return self._contexts.lasting

    async def list_contexts(self, request: Request) -> Response:
        """All contexts."""
        return JSONResponse([context.describe() for context in self._contexts.list()])

    async def create_context(self, request: Request) -> Response:
        """A new context, with a kernel of its own."""
        body = await _body(request)
        context = await self._contexts.create(_text(body, "language"), _text(body, "cwd"))
        return JSONResponse(context.describe())

    async def remove_context(self, request: Request) -> Response:
        """End a context."""
        await self._contexts.remove(request.path_params["id"])
        return Response(status_code=204)

    async def restart_context(self, request: Request) -> Response:
        """Start a context's kernel anew."""
        context = self._contexts.get(request.path_params["id"])
        await context.restart()
        return JSONResponse(context.describe())


async def _ask_itself(settings: Settings) -> None:
    """A request that is refused: what answers the next one is used once."""
    async with asyncio.timeout(_ASK_ITSELF_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        try:
            writer.write(
                b"POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
            )
            await reader.read()
        finally:
            writer.close()


async def _body(request: Request) -> Mapping[str, Any]:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > MAX_BODY_BYTES:
            raise Invalid(f"the request is larger than {MAX_BODY_BYTES} bytes: put the data into a file")
    try:
        body = json.loads(bytes(raw) or b"{}")
    except ValueError as error:
        raise Invalid(f"the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Invalid("the request must be a JSON object")
    return body


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{name!r} must be a text")
    return value


def _variables(body: Mapping[str, Any], name: str) -> Mapping[str, str]:
    value = body.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Invalid(f"{name!r} must be an object of texts")
    return value


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return PlainTextResponse(error.message, error.status)
