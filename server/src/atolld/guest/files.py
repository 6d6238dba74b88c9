"""Putting small files into a sandbox."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from atolld.foundation.errors import FailedPrecondition, GuestUnreachable
from atolld.guest.http import dial, exchange

PUT_S = 60.0


async def put_file(address: str, token: str, path: str, content: bytes, *, user: str = "root") -> None:
    """Write `content` to the absolute `path`, owned by `user`, parents made; mode 0644.

    Raises FailedPrecondition with the agent's words when it cannot be written, GuestUnreachable.
    """
    query = urlencode({"path": path, "username": user})
    headers = {"x-access-token": token, "content-type": "application/octet-stream"}
    try:
        async with asyncio.timeout(PUT_S):
            reader, writer = await dial(address)
            try:
                answer = await exchange(reader, writer, "POST", f"/files?{query}", headers, content)
            finally:
                writer.close()
    except TimeoutError:
        raise GuestUnreachable(f"the sandbox's agent did not take {path} within {PUT_S:g} s") from None
    except OSError as error:
        raise GuestUnreachable(f"the connection to the sandbox's agent broke: {error}") from error
    if answer.status != 200:
        said = answer.body[:300].decode("utf-8", "replace")
        raise FailedPrecondition(f"{path} could not be written in the sandbox: {said}")
