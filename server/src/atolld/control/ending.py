"""How a sandbox ends, whatever the reason: decide and write it down, take it down, write that it is gone.

The decision is a row in `stopping` with its reason, so that a daemon killed between the steps goes on where this one
stopped. Deciding is done under the sandbox's lock and is short; taking down is not, so a death that is told meanwhile
waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from atolld.control.expiry import Expiry
from atolld.control.live import Live, LiveTable
from atolld.control.records import killed_event
from atolld.control.tasks import uninterrupted, until_done
from atolld.control.telemetry import Telemetry
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.policy import OnTimeout
from atolld.core.sandbox import Sandbox
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import Conflict, NotFound, Unavailable
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Death, Node
from atolld.storage.store import SandboxStore

log = logging.getLogger("atolld.control")

_EXPIRE_AGAIN_S = 1.0
_PAUSE_AGAIN_S = 30.0

Condition = Callable[[Sandbox], bool]
PauseAtTime = Callable[[Live, Condition], Awaitable[None]]

# Those whose end begins with a decision in their row; one that is being created is given up instead.
_TAKEN_DOWN = frozenset(
    {
        SandboxState.RUNNING,
        SandboxState.FROZEN,
        SandboxState.PAUSING,
        SandboxState.PAUSED,
        SandboxState.RESUMING,
    }
)


class Ending:
    """Ends sandboxes of the table."""

    def __init__(self, store: SandboxStore, node: Node, table: LiveTable, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._node = node
        self._table = table
        self._clock = clock
        self._telemetry = telemetry
        self.expiry = Expiry(clock, self._on_due)
        # Set by who pauses: what a sandbox does at its time when it is not to end, who deletes saves, and who keeps
        # something of each sandbox besides.
        self.pause_at_time: PauseAtTime | None = None
        self.on_saves_left: Callable[[], None] = lambda: None
        self.on_ended: Callable[[SandboxId], None] = lambda _: None

    async def end(self, live: Live, reason: EndReason, message: str, condition: Condition | None = None) -> bool:
        """End a live sandbox and wait until nothing of it is left; goes on although the caller is cancelled.

        Returns whether this call is what ended it: not when it was ending already or `condition`, asked at the moment
        of the decision, does not hold. Raises what the node or the store raised; it is then tried again until it
        succeeds.
        """
        return await uninterrupted(self._end(live, reason, message, condition), name=f"kill-{live.id}")

    async def _end(self, live: Live, reason: EndReason, message: str, condition: Condition | None) -> bool:
        async with live.lock:
            if condition is not None and not condition(live.sandbox):
                return False
            mine = await self._decide(live, reason, message)
        await self._wait(live)
        return mine

    async def _decide(self, live: Live, reason: EndReason, message: str) -> bool:
        if live.state is SandboxState.CREATING:
            mine = live.abort is None
            # The create itself cleans up: it alone knows how far it has come.
            live.give_up(reason, message)
            return mine
        if live.state in _TAKEN_DOWN:
            await self.stop(live, live.state, reason, message)
            crash_point("kill.after_stopping")
            self._begin(live)
            return True
        if live.state is SandboxState.STOPPING and live.ending is None:
            self._begin(live)
        return False

    async def stop(self, live: Live, source: SandboxState, reason: EndReason, message: str) -> None:
        """Write the decision. The caller holds the lock.

        Raises Conflict when the row is elsewhere than memory believes; memory then follows the row.
        """
        crash_point("kill.before_stopping")
        try:
            await self._store.mark_stopping(live.id, source, reason, message)
        except Conflict:
            await self._follow_row(live)
            raise
        live.update(state=SandboxState.STOPPING, end_reason=reason, end_message=message)
        self.expiry.cancel(live.id)

    async def _follow_row(self, live: Live) -> None:
        try:
            live.sandbox = await self._store.get(live.sandbox.project_id, live.id)
        except NotFound:
            live.update(state=SandboxState.ENDED)
        if live.state is SandboxState.ENDED:
            self.expiry.cancel(live.id)
            self._table.remove(live)

    async def finish(self, live: Live) -> None:
        """Take down a sandbox in `stopping`; raises what went wrong at the first attempt, and goes on trying."""
        self._begin(live)
        await self._wait(live)

    async def _wait(self, live: Live) -> None:
        if live.ending is not None:
            await asyncio.shield(live.ending)
            return
        if live.state is SandboxState.CREATING:
            await live.settled.wait()
        if not live.gone.is_set():
            raise Unavailable(f"sandbox {live.id} could not be cleaned up yet; it is tried again by itself")

    def _begin(self, live: Live) -> None:
        live.ending = spawn(self._attempt(live), name=f"end-{live.id}", report=False)

    async def _attempt(self, live: Live) -> None:
        try:
            await self._take_down(live)
        except Exception as error:
            log.error("sandbox %s could not be taken down: %r", live.id, error, extra={"sandbox_id": live.id})
            self._telemetry.count("sandbox_cleanup_failures", {"runtime": live.sandbox.spec.runtime})
            live.ending = None
            if not live.retrying:
                live.retrying = True
                spawn(until_done(self._clock, f"ending {live.id}", lambda: self._again(live)), name=f"again-{live.id}")
            raise

    async def _again(self, live: Live) -> None:
        if live.state is not SandboxState.STOPPING:
            return
        if live.ending is None:
            self._begin(live)
        await self._wait(live)

    async def _take_down(self, live: Live) -> None:
        started = self._clock.monotonic()
        crash_point("kill.before_terminate")
        await self._node.terminate(live.id)
        crash_point("kill.after_terminate")
        sandbox = live.sandbox
        assert sandbox.end_reason is not None
        await self.write_end(live, sandbox.end_reason, sandbox.end_message or "")
        self._telemetry.observe(
            "sandbox_end_seconds", self._clock.monotonic() - started, {"runtime": sandbox.spec.runtime}
        )
        crash_point("kill.after_ended")

    async def write_end(self, live: Live, reason: EndReason, message: str) -> None:
        """Write that nothing of it is left; its saves go."""
        sandbox = live.sandbox
        now = self._clock.now()
        await self._store.mark_ended(
            live.id,
            sandbox.state,
            reason=reason,
            message=message,
            ended_at=now,
            metered_until=now,
            event=killed_event(sandbox, now, reason, message),
        )
        live.update(
            state=SandboxState.ENDED, end_reason=reason, end_message=message, ended_at=now, address=None, handle=None
        )
        self.expiry.cancel(live.id)
        self._table.remove(live)
        self._telemetry.count("sandbox_ends", {"runtime": sandbox.spec.runtime, "reason": reason.value})
        self.on_ended(live.id)
        if sandbox.save_id is not None or sandbox.pending_save_id is not None or sandbox.build_id is not None:
            self.on_saves_left()

    async def on_death(self, death: Death) -> None:
        """The node says that a sandbox ended by itself; its resources are gone already."""
        live = self._table.find(death.id)
        if live is not None:
            await uninterrupted(self._bury(live, death), name=f"death-{death.id}")

    async def _bury(self, live: Live, death: Death) -> None:
        try:
            await self._record_death(live, death)
        except Exception as error:
            log.error("the end of sandbox %s could not be recorded: %r", live.id, error, extra={"sandbox_id": live.id})
            spawn(
                until_done(self._clock, f"recording the end of {live.id}", lambda: self._record_death(live, death)),
                name=f"death-again-{live.id}",
            )

    async def _record_death(self, live: Live, death: Death) -> None:
        async with live.lock:
            if live.state in (SandboxState.CREATING, SandboxState.PAUSING, SandboxState.RESUMING):
                # Not up by its row, or being saved: the create, the resume or the pause fails with this.
                live.death = death
            elif live.state in (SandboxState.RUNNING, SandboxState.FROZEN):
                await self.write_end(live, death.reason, death.message)
                crash_point("death.after_ended")

    def _on_due(self, id: SandboxId) -> None:
        live = self._table.find(id)
        if live is not None:
            spawn(self._expire(live), name=f"expire-{id}")

    async def _expire(self, live: Live) -> None:
        due = live.sandbox.expires_at
        if due is not None:
            self._telemetry.observe("sandbox_expiry_delay_seconds", max(0.0, self._clock.now() - due), {})
        pauses = live.sandbox.spec.lifecycle.on_timeout is OnTimeout.PAUSE and self.pause_at_time is not None
        try:
            if pauses and self.pause_at_time is not None:
                await self.pause_at_time(live, self._is_due)
            else:
                await self.end(live, EndReason.EXPIRED, "its time was up", self._is_due)
        except Exception as error:
            what = "paused" if pauses else "ended"
            log.error("sandbox %s not %s at its time: %r", live.id, what, error, extra={"sandbox_id": live.id})
            if live.state in (SandboxState.RUNNING, SandboxState.FROZEN):
                # One that cannot be saved is never ended instead: its owner asked for its work to be kept.
                again_s = _PAUSE_AGAIN_S if pauses else _EXPIRE_AGAIN_S
                self.expiry.schedule(live.id, self._clock.now() + again_s)

    def _is_due(self, sandbox: Sandbox) -> bool:
        return sandbox.expires_at is not None and sandbox.expires_at <= self._clock.now()
