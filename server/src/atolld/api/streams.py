"""How long bodies of requests may be, and those that are taken as they come, however long they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from atolld.foundation.errors import DeadlineExceeded, InvalidArgument
from atolld.foundation.units import KIB

# Of a body that is read whole, unless its dialect says otherwise.
MAX_BODY_BYTES = 64 * KIB
# Between two pieces; the whole may take as long as it takes.
PIECE_TIMEOUT_S = 60.0


async def pieces_of(request: Request) -> AsyncIterator[bytes]:
    """A body as it comes. Raises DeadlineExceeded when it stops coming, InvalidArgument when it is cut off."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                piece = await anext(stream, None)
        except TimeoutError:
            raise DeadlineExceeded(f"no more of the body arrived for {PIECE_TIMEOUT_S:g} s") from None
        except ClientDisconnect:
            raise InvalidArgument("the body is cut off: its sender went away") from None
        if piece is None:
            return
        if piece:
            yield piece
