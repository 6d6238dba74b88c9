"""What the guest agent knows: the variables that every process of the sandbox gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from atoll_interpreter.aio import log

_TIMEOUT_S = 5
_MAX_BYTES = 4 * 1024 * 1024


async def sandbox_variables(url: str, token: str) -> Mapping[str, str] | None:
    """The sandbox's own variables; None when the agent does not tell them to whoever has `token`."""
    if not token.isprintable() or not token.isascii():
        return None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            told = json.loads(await _get(url, "/envs", token))
    except (OSError, ValueError) as error:
        log.info("the agent did not tell the sandbox's variables: %s", error)
        return None
    if not isinstance(told, dict):
        return None
    return {str(name): str(value) for name, value in told.items()}


async def _get(url: str, path: str, token: str) -> bytes:
    """The body of a 200. Raises OSError, ValueError."""
    # By hand, and as one that ends with the connection: a client's library would start a thread for it, and load much,
    # before the first execution in a sandbox.
    agent = urlsplit(url)
    reader, writer = await asyncio.open_connection(agent.hostname, agent.port or 80, limit=_MAX_BYTES)
    try:
        lines = [f"GET {path} HTTP/1.0", f"host: {agent.netloc}", *([f"x-access-token: {token}"] if token else [])]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.read(_MAX_BYTES)
        while piece := await reader.read(_MAX_BYTES - len(answer)):
            answer += piece
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise ValueError(f"the answer was {head[:100]!r}")
    return body
