"""How a paused sandbox comes back, and how one is put back to a snapshot: decide, launch from the save, publish.

The decision names the save. Whatever fails before the row is `running` again, it is `paused` with that save intact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum

from atolld.control.ending import Ending
from atolld.control.live import Endpoint, Live, LiveTable, not_in_state
from atolld.control.pausing import Pausing, refuse_ended
from atolld.control.records import resumed_event
from atolld.control.saves import Garbage
from atolld.control.tasks import uninterrupted
from atolld.control.telemetry import Telemetry, observe_phases
from atolld.core.defaults import GuestDefaults
from atolld.core.lifecycle import ACTIVE_STATES, SandboxState
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import SaveKind, Snapshot
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import DeadlineExceeded, Internal
from atolld.foundation.ids import BuildId, ProjectId, SandboxId
from atolld.node.interface import Launch, Node, Source
from atolld.storage.store import SandboxStore, SnapshotStore, Started

log = logging.getLogger("atolld.control")

WAKE_DEADLINE_S = 30.0


class Unchanged(Enum):
    """Stands for a value that stays as it is."""

    TIMEOUT = "timeout"


TimeoutS = int | None | Unchanged
DefaultsOf = Callable[[ProjectId, str, BuildId | None], Awaitable[GuestDefaults]]


async def _no_defaults(_project_id: ProjectId, _template_name: str, _build_id: BuildId | None) -> GuestDefaults:
    return GuestDefaults()


class Resuming:
    """Brings sandboxes of the table back."""

    def __init__(
        self,
        *,
        store: SandboxStore,
        snapshots: SnapshotStore,
        node: Node,
        table: LiveTable,
        ending: Ending,
        pausing: Pausing,
        garbage: Garbage,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._node = node
        self._table = table
        self._ending = ending
        self._pausing = pausing
        self._garbage = garbage
        self._clock = clock
        self._telemetry = telemetry
        # How what a sandbox was started from wants to be used; set by who knows.
        self.defaults_of: DefaultsOf = _no_defaults

    async def resume(self, live: Live, timeout_s: TimeoutS, kind: SaveKind | None = None) -> bool:
        """Bring it back, or wait until somebody else has; True when it was not running before.

        `timeout_s` counts only when it is this call that brings it back. Raises as `Sandboxes.resume`.
        """
        return await uninterrupted(self._resume(live, timeout_s, kind), name=f"resume-{live.id}")

    async def _resume(self, live: Live, timeout_s: TimeoutS, kind: SaveKind | None) -> bool:
        resumed = False
        while True:
            async with live.lock:
                if live.state is SandboxState.RUNNING:
                    return resumed
                if live.state is SandboxState.FROZEN:
                    await self._pausing.thaw(live)
                    return True
                if live.state not in (SandboxState.PAUSED, SandboxState.PAUSING, SandboxState.RESUMING):
                    raise not_in_state(live, "cannot be resumed")
                moving = live.moving
                if live.state is SandboxState.PAUSED and (moving is None or moving.done()):
                    await self._begin(live, None, timeout_s, kind)
                    assert live.moving is not None
                    mine = live.moving
                    break
                assert moving is not None
            # A pause frees what it saved last of all; a resume of somebody else's is as good as ours, and so is its
            # failure: two hundred callers must not try it one after the other.
            resuming = live.state is SandboxState.RESUMING
            await asyncio.wait([moving])
            if resuming:
                resumed = True
                moving.result()
        await asyncio.shield(mine)
        return True

    async def rollback(self, live: Live, snapshot: Snapshot) -> Sandbox:
        """Put it back to `snapshot`. Raises as `Sandboxes.rollback`."""
        return await uninterrupted(self._rollback(live, snapshot), name=f"rollback-{live.id}")

    async def _rollback(self, live: Live, snapshot: Snapshot) -> Sandbox:
        allowed = (SandboxState.RUNNING, SandboxState.FROZEN, SandboxState.PAUSED)
        while live.moving is not None and not live.moving.done():
            await asyncio.wait([live.moving])
        async with live.lock:
            if live.state not in allowed or (live.moving is not None and not live.moving.done()):
                raise not_in_state(live, "cannot be rolled back")
            await self._begin(live, snapshot, Unchanged.TIMEOUT, snapshot.kind)
            assert live.moving is not None
            mine = live.moving
        await asyncio.shield(mine)
        return live.sandbox

    async def wake(self, id: SandboxId) -> Endpoint | None:
        """See `Sandboxes.wake`."""
        live = self._table.find(id)
        if live is None:
            return None
        try:
            async with asyncio.timeout(WAKE_DEADLINE_S):
                while live.state is SandboxState.PAUSING and live.moving is not None:
                    await asyncio.wait([live.moving])
                    if live.state is SandboxState.PAUSING:
                        # The task ends a moment after what it wrote; let it.
                        await asyncio.sleep(0)
                if live.state is SandboxState.PAUSED and not live.sandbox.spec.lifecycle.auto_resume:
                    return None
                if live.state not in ACTIVE_STATES | {SandboxState.PAUSED, SandboxState.RESUMING}:
                    return None
                await self.resume(live, Unchanged.TIMEOUT)
        except TimeoutError:
            raise DeadlineExceeded(f"sandbox {id} did not come back within {WAKE_DEADLINE_S:g} s") from None
        return self._table.endpoint(id)

    async def _begin(self, live: Live, snapshot: Snapshot | None, timeout_s: TimeoutS, kind: SaveKind | None) -> None:
        """Write the decision and start; the caller holds the lock."""
        source = live.state
        save = snapshot or await self._save_of(live)
        crash_point("resume.before_resuming")
        await self._store.mark_resuming(
            live.id, source, snapshot.id if snapshot is not None else None, self._clock.now()
        )
        crash_point("resume.after_resuming")
        self._ending.expiry.cancel(live.id)
        live.death = None
        live.update(state=SandboxState.RESUMING, save_id=save.id, address=None, expires_at=None)
        work = self._launch(live, save, timeout_s, kind or save.kind, was_up=source is not SandboxState.PAUSED)
        live.moving = spawn(work, name=f"launch-{live.id}", report=False)

    async def _save_of(self, live: Live) -> Snapshot:
        id = live.sandbox.save_id
        found = await self._snapshots.find(id) if id is not None else None
        if found is None or found.saved is None:
            raise Internal(f"the save of sandbox {live.id} is not known any more")
        return found

    async def _launch(self, live: Live, save: Snapshot, timeout_s: TimeoutS, kind: SaveKind, *, was_up: bool) -> None:
        started = self._clock.monotonic()
        sandbox = live.sandbox
        labels = {"runtime": sandbox.spec.runtime, "kind": kind.value}
        try:
            defaults = GuestDefaults()
            if kind is SaveKind.FILESYSTEM:
                defaults = await self.defaults_of(sandbox.project_id, sandbox.template_name, sandbox.build_id)
            # What a pause left because it could not be freed, or what is rolled back.
            await self._node.terminate(live.id, keep_address=True)
            cleared = self._clock.monotonic()
            crash_point("resume.after_terminate")
            launched = await self._node.launch(
                Launch(
                    id=live.id,
                    runtime=sandbox.spec.runtime,
                    layers=(),
                    resources=sandbox.spec.resources,
                    network=sandbox.spec.network,
                    envs=defaults.envs,
                    agent_token=sandbox.agent_token,
                    template_id=sandbox.template_id,
                    hostname=live.id,
                    source=Source(save.id, kind, save.agent_token),
                    formerly=sandbox.handle,
                    user=defaults.user,
                    workdir=defaults.workdir,
                )
            )
            crash_point("resume.after_launch")
            async with live.lock:
                if live.state is not SandboxState.RESUMING:
                    raise refuse_ended(live, live.sandbox.end_reason)
                if live.death is not None:
                    raise Internal(f"the sandbox ended while it was coming back: {live.death.message}")
                now = self._clock.now()
                lasts_s = sandbox.spec.timeout_s if isinstance(timeout_s, Unchanged) else timeout_s
                expires_at = None if lasts_s is None else now + lasts_s
                await self._store.mark_resumed(
                    live.id,
                    Started(now, expires_at, launched.address, launched.handle),
                    resumed_event(sandbox, now, expires_at, rollback=was_up),
                )
                live.update(
                    state=SandboxState.RUNNING,
                    address=launched.address,
                    handle=launched.handle,
                    expires_at=expires_at,
                    head_id=save.id,
                    paused_at=None,
                )
                live.phases_s = launched.phases_s
                live.woken_at = self._clock.monotonic()
                self._ending.expiry.schedule(live.id, expires_at)
        except BaseException as error:
            self._telemetry.count("sandbox_resumes", {**labels, "outcome": "failed"})
            await self._give_back(live, error)
            raise
        crash_point("resume.after_running")
        self._telemetry.count("sandbox_resumes", {**labels, "outcome": "ok"})
        ended = self._clock.monotonic()
        self._telemetry.observe("sandbox_resume_seconds", ended - started, labels)
        launch_s = sum(launched.phases_s.values())
        phases_s = {"clear": cleared - started, **launched.phases_s, "publish": max(0.0, ended - cleared - launch_s)}
        observe_phases(self._telemetry, "resume", sandbox.spec.runtime, phases_s)
        self._garbage.wake()

    async def _give_back(self, live: Live, error: BaseException) -> None:
        """It did not come up: it is paused again, unless it is being ended."""
        log.warning("sandbox %s did not come back: %r", live.id, error, extra={"sandbox_id": live.id})
        try:
            await self._node.terminate(live.id)
            async with live.lock:
                if live.state is not SandboxState.RESUMING:
                    return
                now = self._clock.now()
                await self._store.mark_given_back(live.id, now)
                live.death = None
                live.update(state=SandboxState.PAUSED, paused_at=now)
        except Exception as failure:
            error.add_note(f"and it could not be given back: {failure!r}")
            log.error("sandbox %s could not be given back: %r", live.id, failure, extra={"sandbox_id": live.id})
