"""Whether a sandbox's agent answers now."""

from __future__ import annotations

from atolld.control.live import Endpoint
from atolld.guest.client import GuestClient

HEALTH_TIMEOUT_S = 2.0


async def agent_answers(endpoint: Endpoint) -> bool:
    """Whether the agent at `endpoint` says within 2 s that it is well."""
    return await GuestClient(endpoint.address).healthy(HEALTH_TIMEOUT_S)
