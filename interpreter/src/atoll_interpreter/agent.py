"""What the guest agent knows: the variables that every process of the sandbox gets."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from atoll_interpreter.aio import log

_TIMEOUT_S = 5
_MAX_BYTES = 4 * 1024 * 1024


async def sandbox_variables(url: str, token: str) -> Mapping[str, str] | None:
    """The sandbox's own variables; None when the agent does not tell them to whoever has `token`."""
    return await asyncio.to_thread(_get, url, token)


def _get(url: str, token: str) -> Mapping[str, str] | None:
    request = urllib.request.Request(f"{url}/envs", headers={"X-Access-Token": token} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            told = json.loads(answer.read(_MAX_BYTES))
    except (OSError, ValueError) as error:
        if not isinstance(error, urllib.error.HTTPError):
            log.info("the agent did not tell the sandbox's variables: %s", error)
        return None
    if not isinstance(told, dict):
        return None
    return {str(name): str(value) for name, value in told.items()}
