"""Putting small files into a sandbox, and taking them away."""

from __future__ import annotations

import asyncio
import base64
import json
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


async def remove_path(address: str, token: str, path: str) -> None:
    """Remove a file, or a directory with all in it; gone is success.

    Raises FailedPrecondition with the agent's words when it cannot be removed, GuestUnreachable.
    """
    headers = {
        "x-access-token": token,
        "content-type": "application/json",
        "connect-protocol-version": "1",
        "authorization": f"Basic {base64.b64encode(b'root:').decode()}",
    }
    body = json.dumps({"path": path}).encode()
    try:
        async with asyncio.timeout(PUT_S):
            reader, writer = await dial(address)
            try:
                answer = await exchange(reader, writer, "POST", "/filesystem.Filesystem/Remove", headers, body)
            finally:
                writer.close()
    except TimeoutError:
        raise GuestUnreachable(f"the sandbox's agent did not remove {path} within {PUT_S:g} s") from None
    except OSError as error:
        raise GuestUnreachable(f"the connection to the sandbox's agent broke: {error}") from error
    if answer.status not in (200, 404):
        said = answer.body[:300].decode("utf-8", "replace")
        raise FailedPrecondition(f"{path} could not be removed in the sandbox: {said}")
