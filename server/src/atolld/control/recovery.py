"""What the daemon does with the rows an earlier daemon left: goes on with what runs, ends what does not."""

from __future__ import annotations

import logging

from atolld.control.ending import Ending
from atolld.control.live import Live, LiveTable
from atolld.control.records import killed_event, paused_event
from atolld.core.lifecycle import ACTIVE_STATES, EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.ids import SandboxId
from atolld.node.interface import Death, Known, Node
from atolld.storage.store import SandboxStore, SnapshotStore

log = logging.getLogger("atolld.control")

_PAUSED = frozenset({SandboxState.PAUSED, SandboxState.RESUMING})
INTERRUPTED = "the daemon was stopped while it was being created"


class Recovery:
    """Runs once, at the start, before anything is asked for."""

    def __init__(
        self,
        store: SandboxStore,
        snapshots: SnapshotStore,
        node: Node,
        table: LiveTable,
        ending: Ending,
        clock: Clock,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._node = node
        self._table = table
        self._ending = ending
        self._clock = clock

    async def recover(self) -> None:
        """Bring rows and node together. Can be killed at any step and run again.

        Only sandboxes that ran (frozen and half-paused ones included) are made known to the node: everything else of
        this instance it removes, and only then are the rows of those closed.
        """
        rows = await self._store.live()
        running = [row for row in rows if row.state in ACTIVE_STATES]
        for row in rows:
            if row.state in ACTIVE_STATES or row.state in _PAUSED:
                self._table.add(Live(row, woken_at=self._clock.monotonic()))
        standing = await self._standing()
        paused = {row.id: row.handle for row in rows if row.state in _PAUSED and row.handle is not None}
        outcome = await self._node.recover([_known(row, row.id in standing) for row in running], paused)
        crash_point("recover.after_node")
        for row in rows:
            if row.state in (SandboxState.CREATING, SandboxState.STOPPING):
                await self._close(row)
            elif row.state is SandboxState.RESUMING:
                await self._give_back(row)
        for row in running:
            live = self._table.find(row.id)
            # None: it died after the node had taken it over, and its death has been recorded.
            if live is not None:
                unknown = Death(row.id, EndReason.CRASHED, "it was gone when the daemon started")
                await self._settle(live, outcome.get(row.id, unknown))
        log.info("recovered %d of %d sandboxes", len(self._table), len(rows))

    async def _standing(self) -> set[SandboxId]:
        """The sandboxes that may stand still because the earlier daemon was saving them when it was stopped."""
        cut_off = [await self._snapshots.find(id) for id in await self._snapshots.interrupted()]
        return {snapshot.sandbox_id for snapshot in cut_off if snapshot is not None}

    async def _close(self, row: Sandbox) -> None:
        reason, message = row.end_reason or EndReason.CRASHED, row.end_message or ""
        if row.state is SandboxState.CREATING:
            reason, message = EndReason.CREATE_FAILED, INTERRUPTED
            await self._store.mark_stopping(row.id, SandboxState.CREATING, reason, message)
            crash_point("recover.after_stopping")
        await self._write_end(row, SandboxState.STOPPING, reason, message)

    async def _give_back(self, row: Sandbox) -> None:
        live = self._table.find(row.id)
        assert live is not None
        now = self._clock.now()
        await self._store.mark_given_back(row.id, now)
        live.update(state=SandboxState.PAUSED, address=None, paused_at=now)
        crash_point("recover.after_given_back")

    async def _settle(self, live: Live, death: Death | None) -> None:
        async with live.lock:
            if live.state not in ACTIVE_STATES:
                return
            if live.state is SandboxState.PAUSING and await self._finish_pause(live, death):
                return
            if death is None:
                await self._store.meter(live.id, self._clock.now())
                # One whose time was up meanwhile is due at once.
                self._ending.expiry.schedule(live.id, live.sandbox.expires_at)
                return
            await self._write_end(live.sandbox, live.state, death.reason, death.message)
            live.update(state=SandboxState.ENDED, address=None)
            self._table.remove(live)

    async def _finish_pause(self, live: Live, death: Death | None) -> bool:
        """A pause that the earlier daemon did not finish: undone when the sandbox still stands, completed when only its
        save is left. False: neither."""
        sandbox = live.sandbox
        if death is None:
            await self._store.mark_going_on(live.id, None)
            live.update(state=SandboxState.RUNNING, pending_save_id=None)
            return False
        saved = await self._node.saved(sandbox.pending_save_id) if sandbox.pending_save_id is not None else None
        if saved is None:
            return False
        now = self._clock.now()
        await self._store.mark_paused(live.id, saved, now, paused_event(sandbox, now, saved, "requested"))
        live.update(
            state=SandboxState.PAUSED,
            save_id=sandbox.pending_save_id,
            pending_save_id=None,
            address=None,
            expires_at=None,
            paused_at=now,
        )
        crash_point("recover.after_paused")
        return True

    async def _write_end(self, row: Sandbox, source: SandboxState, reason: EndReason, message: str) -> None:
        now = self._clock.now()
        seen_at = await self._store.last_seen(row.id)
        await self._store.mark_ended(
            row.id,
            source,
            reason=reason,
            message=message,
            ended_at=now,
            metered_until=now if seen_at is None else seen_at,
            event=killed_event(row, now, reason, message),
        )
        crash_point("recover.after_ended")


def _known(row: Sandbox, standing: bool) -> Known:
    return Known(
        id=row.id,
        runtime=row.spec.runtime,
        resources=row.spec.resources,
        address=row.address,
        handle=row.handle,
        agent_token=row.agent_token,
        network=row.spec.network,
        frozen=row.state is SandboxState.FROZEN,
        standing=standing or row.state is SandboxState.PAUSING,
    )
