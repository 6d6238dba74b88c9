"""How a sandbox comes to be: row, launch, row.

A create is never cancelled as a task, since a half-written step is harder to undo than a finished one. Whoever wants it
to stop calls `Live.give_up`, which ends the launch and makes the create clean up after itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace

from atolld.control.ending import Ending
from atolld.control.live import Live, LiveTable
from atolld.control.records import created_event
from atolld.control.starts import Start
from atolld.control.tasks import until_done
from atolld.control.telemetry import Telemetry, observe_phases
from atolld.control.warm import Warm
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.sandbox import Sandbox, SandboxSpec
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    RuntimeUnusable,
)
from atolld.foundation.ids import ProjectId, SandboxId, new_sandbox_id
from atolld.node.interface import Claim as Adoption
from atolld.node.interface import Launch, Launched, Node
from atolld.storage.store import Claim, SandboxStore, Started

log = logging.getLogger("atolld.control")

# The node refuses with these before it makes anything, so there is nothing to record or to clean.
_REFUSALS = (Capacity, RuntimeUnusable, NotFound, InvalidArgument)


class Creation:
    """Makes sandboxes and enters them into the table."""

    def __init__(
        self,
        *,
        store: SandboxStore,
        node: Node,
        table: LiveTable,
        ending: Ending,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._node = node
        self._table = table
        self._ending = ending
        self._clock = clock
        self._telemetry = telemetry

    def draft(self, project_id: ProjectId, spec: SandboxSpec, start: Start, warm: Warm | None = None) -> Live:
        """A sandbox that exists nowhere yet; `warm`: the one that it is to be, whose id and token it has."""
        return Live(
            Sandbox(
                id=new_sandbox_id() if warm is None else warm.id,
                project_id=project_id,
                template_id=start.template_id,
                template_name=start.template_name,
                head_id=start.head_id,
                build_id=start.build_id,
                spec=spec,
                state=SandboxState.CREATING,
                created_at=self._clock.now(),
                agent_token=secrets.token_urlsafe(32) if warm is None else warm.agent_token,
                traffic_token=None if spec.network.allow_public_traffic else new_traffic_token(),
            )
        )

    async def create(self, live: Live, start: Start, claim: Claim | None) -> Sandbox:
        """Bring `live` up. Must run in a task that nobody cancels.

        Raises LimitExceeded, Conflict (the claim's key was used for another request), what `Node.launch` raises, and
        FailedPrecondition when it was given up meanwhile; whatever was made is gone then. With a claim that an earlier
        create has fulfilled, that one's sandbox is returned.
        """
        started = self._clock.monotonic()
        runtime = live.sandbox.spec.runtime
        try:
            crash_point("create.before_insert")
            id = await self._store.insert(live.sandbox, claim)
            if id != live.id:
                earlier = self._table.find(id)
                return earlier.sandbox if earlier is not None else await self._store.get(live.sandbox.project_id, id)
            stored = self._clock.monotonic()
            crash_point("create.after_insert")
            sandbox = await self._bring_up(live, start)
        except Exception as error:
            code = error.code if isinstance(error, AtollError) else "internal"
            self._telemetry.count("sandbox_creates", {"runtime": runtime, "outcome": code})
            raise
        finally:
            live.settled.set()
        ended = self._clock.monotonic()
        launch_s = sum(live.phases_s.values())
        live.phases_s = {
            "record": stored - started,
            **live.phases_s,
            "publish": max(0.0, ended - stored - launch_s),
        }
        self._report(runtime, ended - started, live.phases_s)
        return sandbox

    async def claim(self, live: Live, warm: Warm, claim: Claim | None) -> Sandbox:
        """Make `warm` what `live` asks for; `live` bears its id. Must run in a task that nobody cancels.

        Raises as `create`; GuestUnreachable, FailedPrecondition or Internal when that one cannot be used, which is
        ended then. No row tells of it before it is up.
        """
        started = self._clock.monotonic()
        # From here on it can be given up, and its death is told to it.
        self._table.add(live)
        try:
            id = await self._adopt(live, warm, claim, started)
            if id != live.id:
                await self._drop(live)
                earlier = self._table.find(id)
                return earlier.sandbox if earlier is not None else await self._store.get(live.sandbox.project_id, id)
        except BaseException:
            if live.state is SandboxState.CREATING:
                await self._drop(live)
            raise
        finally:
            live.settled.set()
        crash_point("claim.after_running")
        if live.abort is not None:
            # Its caller went away while its row was written.
            await self._ending.end(live, live.abort.reason, live.abort.message)
            raise self._given_up(live)
        self._report(live.sandbox.spec.runtime, self._clock.monotonic() - started, live.phases_s)
        return live.sandbox

    async def _drop(self, live: Live) -> None:
        """End what was to be claimed and has no row; whoever waits for its end is told afterwards."""
        try:
            await self._node.terminate(live.id)
        finally:
            self._table.remove(live)

    async def _adopt(self, live: Live, warm: Warm, claim: Claim | None, started: float) -> SandboxId:
        """The id that `claim` stands for: that of `live`, which runs then, or of what it has made before.

        One after the other: writing the row while it is let go took 2 ms more, because both want the interpreter.
        """
        draft = live.sandbox
        spec = draft.spec
        crash_point("claim.before_claim")
        await self._node.claim(warm.id, Adoption(spec.envs, spec.network, spec.resources))
        crash_point("claim.after_claim")
        claimed = self._clock.monotonic()
        async with live.lock:
            self._check_wanted(live, "claimed")
            now = self._clock.now()
            expires_at = None if spec.timeout_s is None else now + spec.timeout_s
            up = replace(
                draft,
                spec=replace(spec, envs={}),
                state=SandboxState.RUNNING,
                started_at=now,
                expires_at=expires_at,
                address=warm.launched.address,
                handle=warm.launched.handle,
            )
            ready = Started(now, expires_at, warm.launched.address, warm.launched.handle)
            id = await self._store.insert_running(up, ready, created_event(up, now, expires_at), claim)
            if id == live.id:
                live.sandbox = up
                live.from_pool = True
                live.woken_at = self._clock.monotonic()
                live.phases_s = {"claim": claimed - started, "record": live.woken_at - claimed}
                self._ending.expiry.schedule(live.id, expires_at)
        return id

    def _report(self, runtime: str, total_s: float, phases_s: Mapping[str, float]) -> None:
        self._telemetry.count("sandbox_creates", {"runtime": runtime, "outcome": "ok"})
        self._telemetry.observe("sandbox_create_seconds", total_s, {"runtime": runtime})
        observe_phases(self._telemetry, "create", runtime, phases_s)

    async def _bring_up(self, live: Live, start: Start) -> Sandbox:
        live.launch = spawn(self._node.launch(_launch_of(live.sandbox, start)), name=f"launch-{live.id}", report=False)
        # The environment is the agent's from here on; it may hold secrets and nothing else needs it.
        live.update(spec=replace(live.sandbox.spec, envs={}))
        self._table.add(live)
        if live.abort is not None:
            live.launch.cancel()
        try:
            launched = await live.launch
            crash_point("create.after_launch")
            sandbox = await self._publish(live, launched)
            crash_point("create.after_running")
            if live.abort is not None:
                # It was given up while its row was written.
                raise self._given_up(live)
            return sandbox
        except _REFUSALS as refusal:
            await self._forget(live, refusal)
            raise
        except asyncio.CancelledError:
            error: Exception = self._given_up(live)
        except Exception as failure:
            error = self._given_up(live) if live.abort is not None else failure
        await self._clean_up(live, error)
        raise error

    async def _publish(self, live: Live, launched: Launched) -> Sandbox:
        async with live.lock:
            self._check_wanted(live, "starting")
            now = self._clock.now()
            timeout_s = live.sandbox.spec.timeout_s
            expires_at = None if timeout_s is None else now + timeout_s
            await self._store.mark_running(
                live.id,
                Started(now, expires_at, launched.address, launched.handle),
                created_event(live.sandbox, now, expires_at),
            )
            live.phases_s = launched.phases_s
            live.woken_at = self._clock.monotonic()
            self._ending.expiry.schedule(live.id, expires_at)
            return live.update(
                state=SandboxState.RUNNING,
                started_at=now,
                expires_at=expires_at,
                address=launched.address,
                handle=launched.handle,
            )

    async def _forget(self, live: Live, refusal: Exception) -> None:
        try:
            await self._store.discard(live.id)
        except Exception as failure:
            refusal.add_note(f"and its row could not be deleted: {failure!r}")
            await self._clean_up(live, refusal)
        else:
            self._table.remove(live)

    async def _clean_up(self, live: Live, error: Exception) -> None:
        reason, message = EndReason.CREATE_FAILED, str(error)
        if live.abort is not None:
            reason, message = live.abort.reason, live.abort.message
        try:
            await self._take_back(live, reason, message)
        except Exception as failure:
            error.add_note(f"and cleaning up failed: {failure!r}")
            log.error("sandbox %s: cleaning up a failed create: %r", live.id, failure, extra={"sandbox_id": live.id})
            spawn(
                until_done(self._clock, f"cleaning up {live.id}", lambda: self._take_back(live, reason, message)),
                name=f"take-back-{live.id}",
            )

    async def _take_back(self, live: Live, reason: EndReason, message: str) -> None:
        # The resources before the row: the database may be what failed, and a row in `creating` is closed by the next
        # start in any case.
        await self._node.terminate(live.id)
        crash_point("create.after_terminate")
        async with live.lock:
            if live.state in (SandboxState.CREATING, SandboxState.RUNNING):
                await self._ending.stop(live, live.state, reason, message)
        crash_point("create.after_stopping")
        if live.state is SandboxState.STOPPING:
            await self._ending.finish(live)

    def _check_wanted(self, live: Live, doing: str) -> None:
        """Raises FailedPrecondition when it was given up meanwhile, Internal when it died."""
        if live.abort is not None:
            raise self._given_up(live)
        if live.death is not None:
            raise Internal(f"the sandbox ended while it was {doing}: {live.death.message}")

    def _given_up(self, live: Live) -> FailedPrecondition:
        why = live.abort.message if live.abort is not None else "its launch was cancelled"
        return FailedPrecondition(f"sandbox {live.id} was ended while it was starting: {why}")


def new_traffic_token() -> str:
    """A new random token for a sandbox's ports."""
    return secrets.token_urlsafe(32)


def _launch_of(sandbox: Sandbox, start: Start) -> Launch:
    return Launch(
        id=sandbox.id,
        runtime=sandbox.spec.runtime,
        layers=start.layers,
        resources=sandbox.spec.resources,
        network=sandbox.spec.network,
        envs={**start.defaults.envs, **sandbox.spec.envs},
        agent_token=sandbox.agent_token,
        template_id=sandbox.template_id,
        hostname=sandbox.id,
        source=start.source,
        user=start.defaults.user,
        workdir=start.defaults.workdir,
    )
