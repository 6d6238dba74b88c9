"""Answers that are sent as they come about."""

from __future__ import annotations

import json

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atoll_interpreter.aio import spawn
from atoll_interpreter.outbox import Outbox
from atoll_interpreter.outputs import KEEPALIVE

_KEEPALIVE = json.dumps(KEEPALIVE).encode() + b"\n"
# The head waits this long for the first line, to go with it.
_HEAD_WAIT_S = 0.1


class Lines(Response):
    """What comes out of `outbox`, with a line that says so after each `keepalive_s` without any.

    A client that goes away abandons the outbox. Not Starlette's own response: that loads a library at its first use,
    which is the first execution in a sandbox.
    """

    media_type = "application/x-ndjson"

    def __init__(self, outbox: Outbox, keepalive_s: float) -> None:
        super().__init__()
        # Its length is not known.
        del self.headers["content-length"]
        self._outbox = outbox
        self._keepalive_s = keepalive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        watching = spawn(self._watch(receive), name="watch-client")
        try:
            taken = await self._outbox.take(min(_HEAD_WAIT_S, self._keepalive_s))
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not taken:
                taken = await self._outbox.take(self._keepalive_s)
            while taken is not None:
                await send({"type": "http.response.body", "body": taken or _KEEPALIVE, "more_body": True})
                taken = await self._outbox.take(self._keepalive_s)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watching.cancel()
            # At the end this does nothing; before it, nobody reads on.
            self._outbox.abandon()

    async def _watch(self, receive: Receive) -> None:
        # The request has been read: nothing else is left to come.
        while (await receive())["type"] != "http.disconnect":
            continue
        self._outbox.abandon()
