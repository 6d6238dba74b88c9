"""The host's side of `guest_program`."""

from __future__ import annotations

import asyncio
import json

from atolld.foundation.errors import GuestUnreachable
from atolld.runtime.conformance.lab import GuestAnswer

PORT = 49983
START_TIMEOUT_S = 20.0
_TRY_S = 0.2


async def ask(address: str, request: dict[str, object], timeout_s: float) -> GuestAnswer:
    """Send one request. Raises GuestUnreachable when the guest does not answer in time or ends meanwhile."""
    reader, writer = await _connect(address)
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        answer = json.loads(line)
        return GuestAnswer(answer["status"], answer["output"])
    except TimeoutError:
        raise GuestUnreachable(f"the guest did not answer {request!r} within {timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        raise GuestUnreachable(f"the guest ended while it worked on {request!r}: {error}") from error
    finally:
        writer.close()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        try:
            async with asyncio.timeout(_TRY_S):
                return await asyncio.open_connection(address, PORT, limit=16 << 20)
        except (OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise GuestUnreachable(f"no guest at {address} within {START_TIMEOUT_S:g} s: {error!r}") from None
            await asyncio.sleep(0.01)
