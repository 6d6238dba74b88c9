"""Changes of what happens to a sandbox when its time is up and while it idles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from atolld.control.live import Live, not_in_state
from atolld.control.powers import Powers
from atolld.control.records import updated_event
from atolld.control.tasks import uninterrupted
from atolld.core.lifecycle import SandboxState
from atolld.core.policy import LifecyclePolicy
from atolld.core.sandbox import Sandbox
from atolld.foundation.clock import Clock
from atolld.storage.store import SandboxStore

# Not on the way between two states.
_SETTLED = frozenset({SandboxState.RUNNING, SandboxState.FROZEN, SandboxState.PAUSED})


class Policies:
    """Changes them, guarded by the state the sandbox is in."""

    def __init__(self, store: SandboxStore, powers: Powers, clock: Clock) -> None:
        self._store = store
        self._powers = powers
        self._clock = clock

    async def change(self, live: Live, change: Callable[[LifecyclePolicy], LifecyclePolicy]) -> Sandbox:
        """See `Sandboxes.set_lifecycle`."""
        return await uninterrupted(self._change(live, change), name=f"lifecycle-{live.id}")

    async def _change(self, live: Live, change: Callable[[LifecyclePolicy], LifecyclePolicy]) -> Sandbox:
        async with live.lock:
            sandbox = live.sandbox
            if live.state not in _SETTLED:
                raise not_in_state(live, "its policy cannot be changed now")
            policy = change(sandbox.spec.lifecycle)
            policy.check()
            await self._powers.check_policy(sandbox.spec.runtime, policy)
            event = updated_event(sandbox, self._clock.now(), lifecycle=policy.to_json())
            await self._store.set_lifecycle(live.id, live.state, policy.to_json(), event)
            return live.update(spec=replace(sandbox.spec, lifecycle=policy))
