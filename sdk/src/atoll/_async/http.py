"""Requests to the daemon: retries where they are safe, and one kind of error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from atoll import _aio as backend
from atoll import _retry
from atoll._config import Config
from atoll._errors import AtollError, ConnectionFailed, Internal, InvalidArgument, LimitExceeded, Timeout
from atoll._wire_errors import error_from_response

# Answers other than files and streams; a sandbox could otherwise make its owner's program take any memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True)
class AsyncCall:
    """One request. `is_safe`: sending it twice has the effect of sending it once."""

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] | None = None
    headers: Mapping[str, str] | None = None
    content: bytes | AsyncIterator[bytes] | None = None
    read_timeout_s: float | None = None
    is_safe: bool = False
    retries: int | None = None


class AsyncHttp:
    """The daemon of one config."""

    def __init__(self, config: Config) -> None:
        self.config = config

    async def open(self, call: AsyncCall) -> httpx.Response:
        """An answer whose body is still to be read; the caller closes it.

        Raises ConnectionFailed when the daemon cannot be reached, Timeout when it does not answer in time, and the
        error of the tree that a refusal stands for.
        """
        client = await backend.shared_client(self.config)
        try:
            request = client.build_request(
                call.method,
                self.config.api_url + call.path,
                params=call.params,
                headers=dict(call.headers) if call.headers else None,
                content=call.content,
                timeout=self._timeout(call),
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidArgument(f"{call.method} {call.path} is not a request that can be sent: {error}") from error
        response = await self._send(client, request, call)
        if response.status_code >= 400:
            raise await _refusal(response)
        return response

    async def read(self, call: AsyncCall, limit_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body of an answer. Raises as `open`, and LimitExceeded past `limit_bytes`."""
        response = await self.open(call)
        try:
            return await read_limited(response, limit_bytes)
        except httpx.TimeoutException as error:
            raise Timeout(f"{call.method} {call.path}: the answer did not end in time") from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"the connection to {self.config.api_url} broke: {_words(error)}") from error
        finally:
            await response.aclose()

    async def json(self, call: AsyncCall) -> Any:
        """The answer as a JSON value, None when it is empty. Raises as `read`, and Internal when it is not JSON."""
        body = await self.read(call)
        if not body:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Internal(f"{call.method} {call.path}: the answer is not JSON") from error

    async def plain(self, request: httpx.Request) -> httpx.Response:
        """Send a request that is the user's own and return the whole answer, whatever it is.

        Raises ConnectionFailed or Timeout.
        """
        client = await backend.shared_client(self.config)
        try:
            return await client.send(request)
        except httpx.TransportError as error:
            raise self._failure(error) from error

    def _timeout(self, call: AsyncCall) -> httpx.Timeout:
        read_s = self.config.request_timeout_s if call.read_timeout_s is None else call.read_timeout_s
        return httpx.Timeout(read_s, connect=self.config.connect_timeout_s)

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request, call: AsyncCall) -> httpx.Response:
        retries = self.config.retries if call.retries is None else call.retries
        can_repeat_body = call.content is None or isinstance(call.content, bytes)
        attempt = 0
        while True:
            wait_s: float | None
            try:
                response = await client.send(request, stream=True)
            except httpx.TransportError as error:
                was_not_sent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if attempt >= retries or not can_repeat_body or not (was_not_sent or call.is_safe):
                    raise self._failure(error) from error
                wait_s = _retry.pause_s(attempt)
            else:
                wait_s = _retry.retry_after_s(response.status_code, response.headers.get("retry-after"))
                if wait_s is None or attempt >= retries or not can_repeat_body:
                    return response
                await response.aclose()
            attempt += 1
            await backend.sleep(wait_s)

    def _failure(self, error: httpx.TransportError) -> AtollError:
        url = self.config.api_url
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return ConnectionFailed(
                f"no daemon answers at {url} ({_words(error)}); start one with 'atoll serve', or set ATOLL_API_URL",
                was_sent=False,
            )
        if isinstance(error, httpx.TimeoutException):
            return Timeout(f"{url} did not answer in time")
        return ConnectionFailed(f"the connection to {url} broke: {_words(error)}")


async def read_limited(response: httpx.Response, limit_bytes: int) -> bytes:
    """The body, or LimitExceeded when it is longer than `limit_bytes`."""
    pieces: list[bytes] = []
    total = 0
    async for piece in response.aiter_raw():
        total += len(piece)
        if total > limit_bytes:
            raise LimitExceeded(f"the answer is longer than {limit_bytes} bytes; read it as a stream")
        pieces.append(piece)
    return b"".join(pieces)


async def _refusal(response: httpx.Response) -> AtollError:
    try:
        body = await read_limited(response, MAX_ERROR_BYTES)
    except (httpx.TransportError, LimitExceeded):
        # The status alone says enough for an error; there is nothing better to report.
        body = b""
    finally:
        await response.aclose()
    return error_from_response(response.status_code, body, response.headers.get("x-request-id"))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
