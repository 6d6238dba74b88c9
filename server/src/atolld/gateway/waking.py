"""Bring a sandbox that does not run back, for a request that may pass, and say why where that is not to be."""

from __future__ import annotations

from atolld.core.lifecycle import SandboxState
from atolld.foundation.errors import AtollError, FailedPrecondition, NotFound
from atolld.foundation.ids import SandboxId
from atolld.gateway.directory import Directory, Endpoint
from atolld.gateway.e2b import not_found
from atolld.gateway.route import Door, Route


async def wake(directory: Directory, route: Route) -> Endpoint:
    """Where the sandbox answers once it runs; what was known of it before is void, its address may be another.

    Raises what keeps it from running: NotFound when it has ended, in the native dialect FailedPrecondition when it is
    paused and its policy says to leave it so, and what `Directory.wake` raises.
    """
    endpoint = await directory.wake(route.sandbox_id)
    if endpoint is None:
        raise _stays(route, directory.endpoint(route.sandbox_id))
    return endpoint


def not_running(id: SandboxId, endpoint: Endpoint) -> FailedPrecondition:
    """The native dialect's error for a sandbox that does not run and is not to be woken."""
    state = endpoint.state.value
    if endpoint.state is SandboxState.PAUSED:
        return FailedPrecondition(
            f"sandbox {id} is {state}, and its policy has auto_resume off, so requests do not wake it; `resume` or "
            "`connect` brings it back",
            state=state,
        )
    return FailedPrecondition(f"sandbox {id} is {state}, not running", state=state)


def _stays(route: Route, endpoint: Endpoint | None) -> AtollError:
    if route.door is Door.E2B:
        return not_found()
    if endpoint is None:
        return NotFound(f"there is no live sandbox {route.sandbox_id}")
    return not_running(route.sandbox_id, endpoint)
