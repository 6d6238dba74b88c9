"""How a sandbox is paused and frozen: decide and write it down, save, write that it is saved, free its memory.

The save counts from the transaction that makes the row `paused`. Until then the sandbox stands still and can go on, so
whatever fails, either it runs on or its save is whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from atolld.control.ending import Ending
from atolld.control.live import Live, not_in_state
from atolld.control.records import frozen_event, pause_failed_event, paused_event, thawed_event
from atolld.control.saves import Garbage, draft_save
from atolld.control.tasks import uninterrupted, until_done
from atolld.control.telemetry import Telemetry, observe_phases
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Saved, SaveKind, SnapshotRole
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import FailedPrecondition
from atolld.node.interface import After, Node
from atolld.storage.store import SandboxStore

log = logging.getLogger("atolld.control")

Condition = Callable[[Sandbox], bool]


class Pausing:
    """Pauses and freezes sandboxes of the table."""

    def __init__(
        self,
        *,
        store: SandboxStore,
        node: Node,
        ending: Ending,
        garbage: Garbage,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._node = node
        self._ending = ending
        self._garbage = garbage
        self._clock = clock
        self._telemetry = telemetry

    async def pause(self, live: Live, kind: SaveKind, why: str, condition: Condition | None = None) -> Sandbox:
        """Save it and free its memory; goes on although the caller is cancelled.

        With a `condition` that does not hold at the moment of the decision nothing is done. Raises as
        `Sandboxes.pause`; the sandbox then runs on.
        """
        return await uninterrupted(self._pause(live, kind, why, condition), name=f"pause-{live.id}")

    async def _pause(self, live: Live, kind: SaveKind, why: str, condition: Condition | None) -> Sandbox:
        async with live.lock:
            if condition is not None and not condition(live.sandbox):
                return live.sandbox
            if live.state is SandboxState.PAUSING and live.moving is not None:
                moving = live.moving
            elif live.state in (SandboxState.RUNNING, SandboxState.FROZEN):
                moving = None
                await self._begin(live, kind, why)
            else:
                raise not_in_state(live, "cannot be paused")
        if moving is not None:
            # Somebody else's pause: this one comes too late, unless that one fails.
            await asyncio.wait([moving])
            raise not_in_state(live, "cannot be paused")
        assert live.moving is not None
        await asyncio.shield(live.moving)
        return live.sandbox

    async def _begin(self, live: Live, kind: SaveKind, why: str) -> None:
        sandbox, source = live.sandbox, live.state
        save = draft_save(sandbox, SnapshotRole.PAUSE, kind, self._clock.now())
        crash_point("pause.before_pausing")
        await self._store.mark_pausing(live.id, source, save)
        crash_point("pause.after_pausing")
        live.update(state=SandboxState.PAUSING, pending_save_id=save.id)
        self._ending.expiry.cancel(live.id)
        live.moving = spawn(self._save(live, kind, why, source), name=f"save-{live.id}", report=False)

    async def _save(self, live: Live, kind: SaveKind, why: str, source: SandboxState) -> None:
        started = self._clock.monotonic()
        save_id = live.sandbox.pending_save_id
        assert save_id is not None
        try:
            if source is SandboxState.FROZEN:
                await self._node.thaw(live.id)
            saved = await self._node.save(live.id, save_id, kind, After.STAND)
            crash_point("pause.after_save")
            written = self._clock.monotonic()
            await self._publish(live, saved, why)
        except Exception as error:
            self._telemetry.count("sandbox_pauses", {"runtime": live.sandbox.spec.runtime, "outcome": "failed"})
            await self._go_on(live, why, error)
            raise
        crash_point("pause.after_paused")
        labels = {"runtime": live.sandbox.spec.runtime}
        self._telemetry.count("sandbox_pauses", {**labels, "outcome": "ok"})
        published = self._clock.monotonic()
        self._telemetry.observe("sandbox_pause_seconds", published - started, labels)
        self._telemetry.observe("sandbox_stopped_seconds", saved.stopped_s, {**labels, "purpose": "pause"})
        self._garbage.wake()
        await self._free(live)
        phases_s = {**saved.phases_s, "publish": published - written, "free": self._clock.monotonic() - published}
        observe_phases(self._telemetry, "pause", live.sandbox.spec.runtime, phases_s)

    async def _publish(self, live: Live, saved: Saved, why: str) -> None:
        async with live.lock:
            if live.state is not SandboxState.PAUSING:
                raise not_in_state(live, "was ended while it was being paused")
            now = self._clock.now()
            await self._store.mark_paused(live.id, saved, now, paused_event(live.sandbox, now, saved, why))
            live.update(
                state=SandboxState.PAUSED,
                save_id=live.sandbox.pending_save_id,
                pending_save_id=None,
                address=None,
                expires_at=None,
                paused_at=now,
            )
            live.death = None

    async def _go_on(self, live: Live, why: str, error: Exception) -> None:
        """It could not be saved: it runs on, unless it is being ended or has died."""
        log.warning("sandbox %s could not be paused: %s", live.id, error, extra={"sandbox_id": live.id})

        async def write() -> None:
            async with live.lock:
                if live.state is not SandboxState.PAUSING:
                    return
                if live.death is not None:
                    await self._ending.write_end(live, live.death.reason, live.death.message)
                    return
                await self._node.go_on(live.id)
                now = self._clock.now()
                event = pause_failed_event(live.sandbox, now, why, str(error))
                await self._store.mark_going_on(live.id, event)
                live.update(state=SandboxState.RUNNING, pending_save_id=None)
                live.woken_at = self._clock.monotonic()
                self._ending.expiry.schedule(live.id, live.sandbox.expires_at)

        try:
            await write()
        except Exception as failure:
            error.add_note(f"and it could not be brought back to running: {failure!r}")
            spawn(until_done(self._clock, f"letting {live.id} go on", write), name=f"go-on-{live.id}")
        self._garbage.wake()

    async def _free(self, live: Live) -> None:
        """Its memory and all else on the machine; what cannot be freed now is tried again before it is resumed."""
        try:
            await self._node.terminate(live.id)
        except Exception as error:
            log.error("the memory of %s could not be freed yet: %r", live.id, error, extra={"sandbox_id": live.id})
        crash_point("pause.after_terminate")

    async def freeze(self, live: Live, why: str, idle: Callable[[], bool] | None = None) -> Sandbox:
        """Stop its processes; with `idle`, only while that still holds. Goes on although the caller is cancelled."""
        return await uninterrupted(self._freeze(live, why, idle), name=f"freeze-{live.id}")

    async def _freeze(self, live: Live, why: str, idle: Callable[[], bool] | None) -> Sandbox:
        async with live.lock:
            if live.state is SandboxState.FROZEN:
                return live.sandbox
            if live.state is not SandboxState.RUNNING:
                raise not_in_state(live, "cannot be frozen")
            # From here on the gateway asks before it lets anything through; what it let through before is in `idle`.
            live.freezing = True
            try:
                if idle is not None and not idle():
                    return live.sandbox
                await self._store.mark_frozen(live.id, frozen_event(live.sandbox, self._clock.now(), why))
                crash_point("freeze.after_frozen")
                try:
                    await self._node.freeze(live.id)
                except Exception:
                    await self._store.mark_thawed(live.id, thawed_event(live.sandbox, self._clock.now()))
                    raise
                sandbox = live.update(state=SandboxState.FROZEN)
                live.woken_at = self._clock.monotonic()
                return sandbox
            finally:
                live.freezing = False

    async def thaw(self, live: Live) -> None:
        """Let a frozen one go on; one that runs is success. The caller holds the lock. Raises FailedPrecondition."""
        if live.state is SandboxState.RUNNING:
            return
        if live.state is not SandboxState.FROZEN:
            raise not_in_state(live, "cannot be thawed")
        await self._node.thaw(live.id)
        await self._store.mark_thawed(live.id, thawed_event(live.sandbox, self._clock.now()))
        live.update(state=SandboxState.RUNNING)
        live.woken_at = self._clock.monotonic()

    async def expire(self, live: Live, condition: Condition) -> None:
        """Its time is up, and its policy is to pause it then."""
        kind = SaveKind.MEMORY if live.sandbox.spec.lifecycle.keep_memory else SaveKind.FILESYSTEM
        await self.pause(live, kind, "timeout", condition)


def refuse_ended(live: Live, reason: EndReason | None) -> FailedPrecondition:
    """The error of a resume whose sandbox was ended meanwhile."""
    why = reason.value if reason is not None else "unknown"
    return FailedPrecondition(f"sandbox {live.id} was ended while it was being resumed ({why})", state="ended")
