"""What is done with sandboxes that nobody uses: frozen or paused when idle, paused to disk when frozen for long.

Idle is one that has had no request in flight for its `idle_timeout_s` and uses next to no CPU: a program that computes
in the background is at work although nobody talks to it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from atolld.control.live import Live, LiveTable
from atolld.control.pausing import Pausing
from atolld.control.telemetry import Telemetry
from atolld.core.lifecycle import SandboxState
from atolld.core.policy import OnIdle
from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import cancel_and_wait, spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import AtollError, NotFound
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Node

log = logging.getLogger("atolld.control")

ROUND_S = 1.0
# In percent of one core: an idle agent and its runtime take less than half of one.
IDLE_CPU_PCT = 5.0
RETRY_S = 60.0


class Activity(Protocol):
    """Who knows of requests to sandboxes; the gateway does."""

    def busy(self, id: SandboxId, /) -> bool:
        """Whether a request is in flight."""
        ...

    def idle_since(self, id: SandboxId, /) -> float | None:
        """When the last one ended, on the monotonic clock; None: there was none since the daemon's start."""
        ...

    def forget(self, id: SandboxId, /) -> None:
        """The sandbox has ended."""
        ...


class NoActivity:
    """Nobody ever asks anything."""

    def busy(self, id: SandboxId, /) -> bool:
        """See `Activity.busy`."""
        return False

    def idle_since(self, id: SandboxId, /) -> float | None:
        """See `Activity.idle_since`."""
        return None

    def forget(self, id: SandboxId, /) -> None:
        """See `Activity.forget`."""


class Idle:
    """Looks once a second at the sandboxes that have a policy; costs nothing while there are none."""

    def __init__(
        self, node: Node, table: LiveTable, pausing: Pausing, activity: Activity, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._node = node
        self._table = table
        self._pausing = pausing
        self._activity = activity
        self._clock = clock
        self._telemetry = telemetry
        self._not_before: dict[SandboxId, float] = {}
        self._acting: set[SandboxId] = set()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be a sandbox with a policy."""
        if self._task is None and self._with_policy():
            self._task = spawn(self._run(), name="idle")

    async def stop(self) -> None:
        """End looking."""
        await cancel_and_wait(self._task)
        self._task = None

    def _with_policy(self) -> list[Live]:
        return [live for live in self._table if live.sandbox.spec.lifecycle.idle_timeout_s is not None]

    async def _run(self) -> None:
        try:
            while found := self._with_policy():
                for live in found:
                    if live.id not in self._acting and self._is_due(live):
                        self._acting.add(live.id)
                        spawn(self._act(live), name=f"idle-{live.id}")
                await self._clock.sleep(ROUND_S)
        finally:
            self._task = None
            self._not_before.clear()

    def _is_due(self, live: Live) -> bool:
        policy = live.sandbox.spec.lifecycle
        if self._not_before.get(live.id, 0.0) > self._clock.monotonic():
            return False
        if live.state is SandboxState.FROZEN and policy.pause_after_s is not None:
            return self._clock.monotonic() - live.woken_at >= policy.pause_after_s
        return live.state is SandboxState.RUNNING and self._is_quiet(live)

    def _is_quiet(self, live: Live) -> bool:
        wanted_s = live.sandbox.spec.lifecycle.idle_timeout_s
        if wanted_s is None or self._activity.busy(live.id):
            return False
        since = max(live.woken_at, self._activity.idle_since(live.id) or 0.0)
        return self._clock.monotonic() - since >= wanted_s

    async def _act(self, live: Live) -> None:
        policy = live.sandbox.spec.lifecycle
        kind = SaveKind.MEMORY if policy.keep_memory else SaveKind.FILESYSTEM
        try:
            if live.state is SandboxState.FROZEN:
                await self._pausing.pause(live, kind, "idle", lambda sandbox: sandbox.state is SandboxState.FROZEN)
            elif await self._works(live):
                self._not_before[live.id] = self._clock.monotonic() + ROUND_S
            elif policy.on_idle is OnIdle.FREEZE:
                await self._pausing.freeze(live, "idle", lambda: self._is_quiet(live))
            else:
                await self._pausing.pause(live, kind, "idle", lambda _: self._is_quiet(live))
        except NotFound:
            return
        except AtollError as error:
            self._telemetry.count("sandbox_idle_failures", {"runtime": live.sandbox.spec.runtime})
            log.warning("idle sandbox %s: %s", live.id, error.message, extra={"sandbox_id": live.id})
            self._not_before[live.id] = self._clock.monotonic() + RETRY_S
        finally:
            self._acting.discard(live.id)

    async def _works(self, live: Live) -> bool:
        return (await self._node.usage(live.id)).cpu_used_pct >= IDLE_CPU_PCT
