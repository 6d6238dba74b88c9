"""What the daemon does with the rows an earlier daemon left: goes on with what runs, ends what does not."""

from __future__ import annotations

import logging

from atolld.control.ending import Ending
from atolld.control.live import Live, LiveTable
from atolld.control.records import killed_event
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.node.interface import Death, Known, Node
from atolld.storage.store import SandboxStore

log = logging.getLogger("atolld.control")

INTERRUPTED = "the daemon was stopped while it was being created"


class Recovery:
    """Runs once, at the start, before anything is asked for."""

    def __init__(self, store: SandboxStore, node: Node, table: LiveTable, ending: Ending, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._table = table
        self._ending = ending
        self._clock = clock

    async def recover(self) -> None:
        """Bring rows and node together. Can be killed at any step and run again.

        Only sandboxes that were running are made known to the node: everything else of this instance it removes, and
        only then are the rows of those closed.
        """
        rows = await self._store.live()
        running = [row for row in rows if row.state is SandboxState.RUNNING]
        for row in running:
            self._table.add(Live(row))
        outcome = await self._node.recover([_known(row) for row in running])
        crash_point("recover.after_node")
        for row in rows:
            if row.state is not SandboxState.RUNNING:
                await self._close(row)
        for row in running:
            live = self._table.find(row.id)
            # None: it died after the node had taken it over, and its death has been recorded.
            if live is not None:
                unknown = Death(row.id, EndReason.CRASHED, "it was gone when the daemon started")
                await self._settle(live, outcome.get(row.id, unknown))
        log.info("recovered %d of %d sandboxes", len(self._table), len(rows))

    async def _close(self, row: Sandbox) -> None:
        reason, message = row.end_reason or EndReason.CRASHED, row.end_message or ""
        if row.state is SandboxState.CREATING:
            reason, message = EndReason.CREATE_FAILED, INTERRUPTED
            await self._store.mark_stopping(row.id, SandboxState.CREATING, reason, message)
            crash_point("recover.after_stopping")
        await self._write_end(row, SandboxState.STOPPING, reason, message)

    async def _settle(self, live: Live, death: Death | None) -> None:
        async with live.lock:
            if live.state is not SandboxState.RUNNING:
                return
            if death is None:
                await self._store.meter(live.id, self._clock.now())
                # One whose time was up meanwhile is due at once.
                self._ending.expiry.schedule(live.id, live.sandbox.expires_at)
                return
            await self._write_end(live.sandbox, SandboxState.RUNNING, death.reason, death.message)
            live.update(state=SandboxState.ENDED, address=None)
            self._table.remove(live)

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


def _known(row: Sandbox) -> Known:
    return Known(
        id=row.id,
        runtime=row.spec.runtime,
        resources=row.spec.resources,
        address=row.address,
        handle=row.handle,
        agent_token=row.agent_token,
        network=row.spec.network,
        standing=row.state is SandboxState.PAUSING,
    )
