# Generated from `src/atoll/_async/guest.py` by `scripts/unasync.py`: change that, not this.
"""One sandbox's agent, reached through the daemon: unary calls, streams and plain requests."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from atoll._sync.http import Call, Http
from atoll._envelope import Decoder, Frame, StreamBroken, encode
from atoll._errors import AtollError
from atoll._wire_errors import DaemonNotFound, error_from_end_frame, sandbox_ended

KEEPALIVE_S = 30
# Two keepalives late means that the connection is dead, though nobody told us.
STREAM_READ_TIMEOUT_S = 2.5 * KEEPALIVE_S


class Guest:
    """The agent of sandbox `id`."""

    def __init__(self, http: Http, id: str) -> None:
        self.http = http
        self.id = id
        self._prefix = f"/v1/sandboxes/{quote(id, safe='')}"

    def agent_path(self, path: str) -> str:
        """The daemon's path of an agent's path (without its leading slash)."""
        return f"{self._prefix}/agent/{path}"

    def own_path(self, path: str = "") -> str:
        """The daemon's path of this sandbox, or of something under it."""
        return self._prefix + path

    def unary(
        self, method: str, message: Mapping[str, object], *, user: str | None = None, is_safe: bool = False
    ) -> dict[str, Any]:
        """Call `package.Service/Method`. Raises the error that the agent or the daemon answers with."""
        call = Call(
            "POST",
            self.agent_path(method),
            headers={"content-type": "application/json", "connect-protocol-version": "1", **user_header(user)},
            content=json.dumps(message, separators=(",", ":")).encode(),
            is_safe=is_safe,
        )
        answer = self.json(call)
        return answer if isinstance(answer, dict) else {}

    def stream(
        self,
        method: str,
        message: Mapping[str, object],
        *,
        user: str | None = None,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> MessageStream:
        """Open a server stream. `timeout_s` becomes Connect-Timeout-Ms, for a command its lifetime.

        Raises what the daemon answers with; the agent's own refusal comes from the stream's first `next`.
        """
        all_headers = {
            "content-type": "application/connect+json",
            "connect-protocol-version": "1",
            "keepalive-ping-interval": str(KEEPALIVE_S),
            **user_header(user),
            **(headers or {}),
        }
        if timeout_s is not None:
            all_headers["connect-timeout-ms"] = str(max(1, round(timeout_s * 1000)))
        call = Call(
            "POST",
            self.agent_path(method),
            headers=all_headers,
            content=encode(message),
            read_timeout_s=STREAM_READ_TIMEOUT_S,
        )
        return MessageStream(self.open(call))

    def open(self, call: Call) -> httpx.Response:
        """As `Http.open`, but a missing sandbox is SandboxEnded."""
        try:
            return self.http.open(call)
        except DaemonNotFound as error:
            raise self._ended(error) from None

    def json(self, call: Call) -> Any:
        """As `Http.json`, but a missing sandbox is SandboxEnded."""
        try:
            return self.http.json(call)
        except DaemonNotFound as error:
            raise self._ended(error) from None

    def _ended(self, error: AtollError) -> AtollError:
        try:
            events = self.http.json(Call("GET", self.own_path("/events"), is_safe=True))
        except AtollError:
            # Why it ended would be good to know; that it ended is certain without it.
            events = None
        return sandbox_ended(self.id, events, error.request_id)


class MessageStream:
    """The messages of one server stream, in order."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self._response = response
        self._pieces = response.iter_raw()
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()

    def next(self) -> dict[str, object] | None:
        """The next message, None at the stream's proper end.

        Raises StreamBroken when it ends otherwise, and the error in its last frame.
        """
        while not self._frames:
            self._frames.extend(self._decoder.feed(self._read()))
        frame = self._frames.popleft()
        if not frame.is_end:
            return frame.message
        self._drain()
        error = frame.message.get("error")
        if isinstance(error, dict):
            raise error_from_end_frame(error)
        return None

    def close(self) -> None:
        """Give the connection up. Idempotent."""
        self._response.close()

    def _read(self) -> bytes:
        try:
            return self._pieces.__next__()
        except StopIteration:
            raise StreamBroken("the stream ended before its last frame") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise StreamBroken(str(error) or type(error).__name__) from error

    def _drain(self) -> None:
        # A connection goes back to the pool only when its answer was read to the end.
        try:
            self._read()
        except StreamBroken:
            pass
        finally:
            self._response.close()


def user_header(user: str | None) -> dict[str, str]:
    """The header that names the sandbox's user a call is made as; empty for the default user."""
    if user is None:
        return {}
    return {"authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}
