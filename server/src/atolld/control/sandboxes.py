"""Sandboxes: everything a caller can ask of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from atolld.control.creation import Creation, new_traffic_token
from atolld.control.ending import Ending
from atolld.control.forks import Forks
from atolld.control.housekeeping import Housekeeping
from atolld.control.idempotency import Flight, Flights, make_claim
from atolld.control.idle import Activity, Idle, NoActivity
from atolld.control.lists import ListFilters, Page, read_page
from atolld.control.live import Endpoint, Live, LiveTable, gone, running
from atolld.control.pausing import Pausing
from atolld.control.policies import Policies
from atolld.control.pools import Pools
from atolld.control.powers import Powers
from atolld.control.records import updated_event
from atolld.control.recovery import Recovery
from atolld.control.resuming import Resuming, TimeoutS, Unchanged
from atolld.control.saves import Garbage
from atolld.control.snapshots import Snapshots
from atolld.control.starts import Start, Starts
from atolld.control.tasks import uninterrupted
from atolld.control.telemetry import NoTelemetry, Telemetry
from atolld.control.templates import Templates
from atolld.control.usage import Sampler
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy
from atolld.core.sandbox import Sandbox, SandboxSpec, check_timeout
from atolld.core.snapshot import SaveKind
from atolld.foundation.aio import spawn
from atolld.foundation.clock import Clock
from atolld.foundation.errors import (
    AtollError,
    Capacity,
    FailedPrecondition,
    GuestUnreachable,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.node.interface import Death, Node, Usage
from atolld.runtime.driver import Power
from atolld.storage.store import Claim, PoolStore, SandboxStore, SnapshotStore

log = logging.getLogger("atolld.control")

# What a warm sandbox may fail with that an ordinary create need not.
_UNUSABLE = (GuestUnreachable, NotFound, FailedPrecondition, Internal)
CALLER_GONE = "its creator went away before it was ready"


class Sandboxes:
    """The sandboxes of all projects. `recover` must have returned before anything else is called.

    `retention_s`: how long ended sandboxes and their events can be read; None keeps them for ever.
    """

    def __init__(
        self,
        *,
        store: SandboxStore,
        snapshots: SnapshotStore,
        pools: PoolStore,
        node: Node,
        templates: Templates,
        clock: Clock,
        telemetry: Telemetry | None = None,
        activity: Activity | None = None,
        retention_s: float | None = 30 * 24 * 3600.0,
    ) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        told = telemetry or NoTelemetry()
        self._table = LiveTable()
        self._ending = Ending(store, node, self._table, clock, told)
        self._creation = Creation(
            store=store, node=node, table=self._table, ending=self._ending, clock=clock, telemetry=told
        )
        self._snapshot_store = snapshots
        self.garbage = Garbage(snapshots, node, clock, templates.leftovers)
        self.powers = Powers(node)
        self._starts = Starts(templates, snapshots)
        self._pausing = Pausing(
            store=store, node=node, ending=self._ending, garbage=self.garbage, clock=clock, telemetry=told
        )
        self._ending.pause_at_time = self._pausing.expire
        self._ending.on_saves_left = self.garbage.wake
        used = activity or NoActivity()
        self._ending.on_ended = used.forget
        self._resuming = Resuming(
            store=store,
            snapshots=snapshots,
            node=node,
            table=self._table,
            ending=self._ending,
            pausing=self._pausing,
            garbage=self.garbage,
            clock=clock,
            telemetry=told,
        )
        self._resuming.defaults_of = self._starts.defaults_of
        self.snapshots = Snapshots(
            store=snapshots,
            sandboxes=store,
            node=node,
            table=self._table,
            pausing=self._pausing,
            garbage=self.garbage,
            powers=self.powers,
            clock=clock,
            telemetry=told,
        )
        self.pools = Pools(store=pools, starts=self._starts, powers=self.powers, node=node, clock=clock, telemetry=told)
        if templates.projects is not None:
            templates.projects.listen(self.pools.refresh)
        self._forks = Forks(self.snapshots, self._create)
        self._policies = Policies(store, self.powers, clock)
        self._idle = Idle(node, self._table, self._pausing, used, clock, told)
        self._sampler = Sampler(store, node, self._table, clock, told)
        self._flights = Flights(self._abandoned)
        self._drafts: dict[Flight, Live] = {}
        self._housekeeping = Housekeeping(store, templates.leftovers, clock, retention_s)
        self._closing = False
        # Told of each that was just made, or brought back by a call, before its caller is.
        self.on_up: Callable[[SandboxId], None] = lambda _: None
        # Whether it was a sandbox of a build that died; they have no rows.
        self.builds_lost: Callable[[Death], bool] = lambda _: False

    async def recover(self) -> None:
        """Start the node, take over what an earlier daemon left, and begin to watch the clock."""
        await self._node.start(self._on_death)
        await Recovery(self._store, self._snapshot_store, self._node, self._table, self._ending, self._clock).recover()
        await self.garbage.recover()
        self.garbage.start()
        self._ending.expiry.start()
        self._idle.wake()
        await self.pools.start()
        self._housekeeping.start()
        if self._table.running():
            self._sampler.wake()

    async def _on_death(self, death: Death) -> None:
        if not self.pools.lost(death.id) and not self.builds_lost(death):
            await self._ending.on_death(death)

    async def shutdown(self, end_all: bool) -> None:
        """Refuse new sandboxes, give up those being created, and with `end_all` end every other one as well.

        Raises ExceptionGroup with what could not be ended, after all were tried. The node is left for the caller to
        close.
        """
        self._closing = True
        await self.pools.stop()
        for draft in self._drafts.values():
            if draft.state is SandboxState.CREATING:
                draft.give_up(EndReason.SHUTDOWN, "the daemon was stopped")
        await self._idle.stop()
        under_way: list[asyncio.Task[Any]] = [flight.task for flight in self._drafts if flight.task is not None]
        under_way += [live.moving for live in self._table if live.moving is not None and not end_all]
        if under_way:
            await asyncio.wait(under_way)
        endings = [live for live in self._table if end_all or live.state is SandboxState.STOPPING]
        results = await asyncio.gather(
            *(self._ending.end(live, EndReason.SHUTDOWN, "the daemon was told to end everything") for live in endings),
            return_exceptions=True,
        )
        await self._housekeeping.stop()
        await self._ending.expiry.stop()
        await self._sampler.stop()
        await self.garbage.stop()
        if end_all:
            await self.garbage.collect()
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            raise ExceptionGroup("some sandboxes could not be ended", failures)

    async def create(self, project_id: ProjectId, spec: SandboxSpec, idempotency_key: str | None = None) -> Sandbox:
        """A new running sandbox. When the caller is cancelled meanwhile, nothing is left of it.

        `idempotency_key` (1 to 255 printable ASCII characters): the same key with the same spec within 24 h returns the
        sandbox that the first call made, even when that has ended since; a create that failed does not count.

        Raises InvalidArgument, NotFound (template or runtime), LimitExceeded, Capacity, RuntimeUnusable, Conflict (the
        key was used for another spec), FailedPrecondition (it was killed while it started), Unavailable (the daemon is
        stopping), or what kept it from starting.
        """
        if self._closing:
            raise Unavailable("the daemon is stopping")
        spec.check()
        claim = make_claim(idempotency_key, spec, self._clock.now())
        start, spec = await self._starts.find(project_id, spec)
        await self.powers.check_policy(spec.runtime, spec.lifecycle)
        sandbox = await self._create(project_id, spec, start, claim)
        self._idle.wake()
        return sandbox

    async def _create(self, project_id: ProjectId, spec: SandboxSpec, start: Start, claim: Claim | None) -> Sandbox:
        async def begin(flight: Flight) -> Sandbox:
            if self._closing:
                raise Unavailable("the daemon is stopping")
            if flight.abandoned:
                raise FailedPrecondition(CALLER_GONE)
            while (warm := self.pools.take(project_id, spec, start.version)) is not None:
                draft = self._creation.draft(project_id, spec, warm.start, warm)
                try:
                    return await self._under_way(flight, draft, self._creation.claim(draft, warm, claim))
                except _UNUSABLE as error:
                    if draft.abort is not None:
                        raise
                    log.warning("a warm sandbox could not be used: %s", error, extra={"sandbox_id": warm.id})
            while True:
                draft = self._creation.draft(project_id, spec, start)
                try:
                    return await self._under_way(flight, draft, self._creation.create(draft, start, claim))
                except Capacity:
                    # Whoever waits comes before what merely might be wanted.
                    if flight.abandoned or not await self.pools.make_room():
                        raise

        sandbox = await self._flights.fly(project_id, claim, begin)
        self._sampler.wake()
        self.on_up(sandbox.id)
        return sandbox

    async def _under_way(self, flight: Flight, draft: Live, work: Awaitable[Sandbox]) -> Sandbox:
        flight.made = draft.id
        self._drafts[flight] = draft
        try:
            return await work
        finally:
            del self._drafts[flight]

    def _abandoned(self, flight: Flight) -> None:
        draft = self._drafts.get(flight)
        if draft is not None and draft.state is SandboxState.CREATING:
            draft.give_up(EndReason.CREATE_FAILED, CALLER_GONE)
        # It came up in the moment its caller left. One that an earlier create made is not in question.
        live = self._table.find(flight.made) if flight.made is not None else None
        if live is not None and live.state is not SandboxState.CREATING:
            spawn(self._ending.end(live, EndReason.CREATE_FAILED, CALLER_GONE), name=f"abandoned-{live.id}")

    async def get(self, project_id: ProjectId, id: SandboxId) -> Sandbox:
        """Raises NotFound when it is not live or not of this project."""
        return self._table.get(project_id, id).sandbox

    async def list(
        self, project_id: ProjectId, filters: ListFilters | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """A page of the project's sandboxes, live ones unless the filters say otherwise.

        What is added or ends between two pages makes no other sandbox appear twice or not at all.
        Raises InvalidArgument on a limit outside 1 to 100 or a cursor that is none of ours.
        """
        total_running = len(self._table.running(project_id))
        return await read_page(self._store, project_id, filters or ListFilters(), limit, cursor, total_running)

    async def set_timeout(self, project_id: ProjectId, id: SandboxId, timeout_s: int | None) -> Sandbox:
        """End it `timeout_s` from now, sooner or later than before; None: never.

        Raises NotFound, InvalidArgument (not 1 s to a year), FailedPrecondition when it is still being created.
        """
        check_timeout(timeout_s)
        return await self._renew(project_id, id, timeout_s, only_longer=False)

    async def extend_timeout(self, project_id: ProjectId, id: SandboxId, timeout_s: int | None) -> Sandbox:
        """Let it live at least `timeout_s` from now (None: for ever); never shortens. Raises as `set_timeout`."""
        check_timeout(timeout_s)
        return await self._renew(project_id, id, timeout_s, only_longer=True)

    async def _renew(
        self, project_id: ProjectId, id: SandboxId, timeout_s: int | None, *, only_longer: bool
    ) -> Sandbox:
        live = self._table.get(project_id, id)

        async def work() -> Sandbox:
            async with live.lock:
                sandbox = running(live)
                now = self._clock.now()
                expires_at = None if timeout_s is None else now + timeout_s
                before = sandbox.expires_at
                if only_longer and (before is None or (expires_at is not None and expires_at <= before)):
                    return sandbox
                await self._store.set_expiry(
                    id,
                    timeout_s=timeout_s,
                    expires_at=expires_at,
                    event=updated_event(sandbox, now, expires_at=expires_at),
                )
                self._ending.expiry.schedule(id, expires_at)
                return live.update(expires_at=expires_at, spec=replace(sandbox.spec, timeout_s=timeout_s))

        return await uninterrupted(work(), name=f"timeout-{id}")

    async def kill(self, project_id: ProjectId, id: SandboxId, reason: EndReason = EndReason.KILLED) -> None:
        """End it; nothing of it is left when this returns.

        Of two calls at once one returns and the other raises NotFound, both when it is gone. One that is still being
        created is given up. Raises NotFound, or what kept the node from ending it (it is tried again by itself).
        """
        live = self._table.get(project_id, id)
        if not await self._ending.end(live, reason, "it was killed on request"):
            raise gone(id)

    async def pause(self, project_id: ProjectId, id: SandboxId, kind: SaveKind = SaveKind.MEMORY) -> Sandbox:
        """Save it to disk and free its memory; with FILESYSTEM its processes end and its files are kept.

        Raises NotFound; FailedPrecondition with the detail `state` when it is paused already or not running, and when
        it cannot be saved (it then goes on); LimitExceeded, Capacity (it goes on).
        """
        live = self._table.get(project_id, id)
        if kind is SaveKind.MEMORY:
            hint = "; ask for kind 'filesystem' to keep its files"
            await self.powers.require(live.sandbox.spec.runtime, Power.CHECKPOINT, hint)
        return await self._pausing.pause(live, kind, "requested")

    async def resume(
        self,
        project_id: ProjectId,
        id: SandboxId,
        timeout_s: TimeoutS = Unchanged.TIMEOUT,
        kind: SaveKind | None = None,
    ) -> Sandbox:
        """Bring a paused or frozen one back; it lives `timeout_s` from now (Unchanged: as long as when it was made).

        `kind` FILESYSTEM starts it anew from its files although its memory was saved; None: what was saved.
        Raises NotFound, FailedPrecondition with the detail `state` when it is neither, Capacity, or what kept it from
        coming up (it is paused then, with its save intact).
        """
        live = self._table.get(project_id, id)
        if live.state is SandboxState.RUNNING:
            raise FailedPrecondition(f"sandbox {id} is running already", state=live.state.value)
        sandbox, _ = await self.connect(project_id, id, timeout_s, kind)
        return sandbox

    async def connect(
        self,
        project_id: ProjectId,
        id: SandboxId,
        timeout_s: TimeoutS = Unchanged.TIMEOUT,
        kind: SaveKind | None = None,
    ) -> tuple[Sandbox, bool]:
        """Begin to use it: resumed when it is paused or frozen, and living at least `timeout_s` from now when it runs.

        Returns the sandbox and whether it was resumed. Raises as `resume`, but not for one that runs.
        """
        if not isinstance(timeout_s, Unchanged):
            check_timeout(timeout_s)
        live = self._table.get(project_id, id)
        resumed = await self._resuming.resume(live, timeout_s, kind)
        if resumed:
            self._sampler.wake()
            self.on_up(id)
        if isinstance(timeout_s, Unchanged):
            return live.sandbox, resumed
        return await self._renew(project_id, id, timeout_s, only_longer=True), resumed

    async def freeze(self, project_id: ProjectId, id: SandboxId) -> Sandbox:
        """Stop its processes where they are; the next request to it wakes it. Frozen already is success.

        Raises NotFound, FailedPrecondition (with the detail `state`).
        """
        live = self._table.get(project_id, id)
        await self.powers.require(live.sandbox.spec.runtime, Power.FREEZE)
        return await self._pausing.freeze(live, "requested")

    async def wake(self, id: SandboxId, /) -> Endpoint | None:
        """For the gateway: where it answers, after it was thawed or resumed if its policy says so.

        Waits for a pause or a resume that is under way. None when it is not live, or paused and not to be woken.
        Raises what kept it from coming up, DeadlineExceeded after 30 s.
        """
        found = await self._resuming.wake(id)
        self._sampler.wake()
        return found

    async def fork(
        self, project_id: ProjectId, id: SandboxId, count: int = 1, timeout_s: TimeoutS = Unchanged.TIMEOUT
    ) -> Sequence[Sandbox | AtollError]:
        """`count` (1 to 100) new sandboxes with the memory and files it has now; it goes on. One entry for each: the
        sandbox, or why it did not come up.

        Raises InvalidArgument, NotFound, FailedPrecondition, LimitExceeded, Capacity when there can be none at all.
        """
        if not isinstance(timeout_s, Unchanged):
            check_timeout(timeout_s)
        return await self._forks.fork(self._table.get(project_id, id), count, timeout_s)

    async def rollback(self, project_id: ProjectId, id: SandboxId, snapshot: str) -> Sandbox:
        """Put it back to one of its own tree's snapshots (id or name): same id, tokens and address, its memory and
        files of then. What it was doing is lost, unless it was kept in another snapshot.

        Raises NotFound (sandbox or snapshot), FailedPrecondition (another tree's, or not running, frozen or paused).
        """
        live = self._table.get(project_id, id)
        return await self._resuming.rollback(live, await self.snapshots.of_tree(project_id, id, snapshot))

    async def set_lifecycle(
        self, project_id: ProjectId, id: SandboxId, change: Callable[[LifecyclePolicy], LifecyclePolicy]
    ) -> Sandbox:
        """Change what happens when its time is up and while it idles. Raises NotFound, InvalidArgument,
        FailedPrecondition when the runtime cannot do that or the sandbox is on its way between two states."""
        sandbox = await self._policies.change(self._table.get(project_id, id), change)
        self._idle.wake()
        return sandbox

    def was_warm(self, id: SandboxId) -> bool:
        """Whether its create was served by a warm pool."""
        live = self._table.find(id)
        return live is not None and live.from_pool

    async def set_network(self, project_id: ProjectId, id: SandboxId, policy: NetworkPolicy) -> Sandbox:
        """Change what it may reach and who may reach it, at once; a traffic token is made when one is needed first.

        Raises NotFound, FailedPrecondition when it is still being created.
        """
        return await self.change_network(project_id, id, lambda _: policy)

    async def change_network(
        self, project_id: ProjectId, id: SandboxId, change: Callable[[NetworkPolicy], NetworkPolicy]
    ) -> Sandbox:
        """As `set_network`, from the policy that is in force; nothing else changes it in between."""
        live = self._table.get(project_id, id)

        async def work() -> Sandbox:
            async with live.lock:
                sandbox = running(live)
                policy = change(sandbox.spec.network)
                token = sandbox.traffic_token
                if token is None and not policy.allow_public_traffic:
                    token = new_traffic_token()
                await self._node.set_network(id, policy)
                try:
                    await self._store.set_network(
                        id,
                        network=policy,
                        traffic_token=token,
                        event=updated_event(sandbox, self._clock.now(), **policy.to_json()),
                    )
                except Exception:
                    # What is in force must be what is written: the next start would go by the row.
                    await self._node.set_network(id, sandbox.spec.network)
                    raise
                return live.update(spec=replace(sandbox.spec, network=policy), traffic_token=token)

        return await uninterrupted(work(), name=f"network-{id}")

    async def usage_samples(
        self, project_id: ProjectId, id: SandboxId, start: float | None = None, end: float | None = None
    ) -> Sequence[Usage]:
        """Samples between two Unix times (None: no bound), oldest first: every 5 s, of the last hour.

        The first one is there 5 s after the start at the latest. Raises NotFound.
        """
        return self._table.get(project_id, id).samples.between(start, end)

    async def logs(self, project_id: ProjectId, id: SandboxId, limit_bytes: int) -> bytes:
        """The newest `limit_bytes` of the agent's log: JSON lines, untrusted. Raises NotFound, InvalidArgument."""
        if limit_bytes < 1:
            raise InvalidArgument(f"limit_bytes is {limit_bytes}; it must be at least 1")
        running(self._table.get(project_id, id))
        return await self._node.logs(id, limit_bytes)

    def endpoint(self, sandbox_id: SandboxId, /) -> Endpoint | None:
        """Where the sandbox's agent answers; None when it is not live or not up yet."""
        return self._table.endpoint(sandbox_id)

    def agent_tokens(self) -> Sequence[tuple[SandboxId, str]]:
        """Every running sandbox's id and its agent's token."""
        return self._table.agent_tokens()

    def by_token(self, agent_token: str, /) -> SandboxId | None:
        """The live sandbox whose agent has this token."""
        return self._table.by_token(agent_token)

    def last_phases(self, id: SandboxId) -> Mapping[str, float]:
        """Where the time of its create went, in seconds, in order; empty when it is not live or was recovered."""
        live = self._table.find(id)
        return {} if live is None else live.phases_s

    def counts(self) -> Mapping[tuple[SandboxState, str], int]:
        """Live sandboxes by state and runtime."""
        return self._table.counts()
