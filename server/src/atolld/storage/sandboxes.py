"""Sandboxes in SQL: the guarded writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from atolld.core.event import Event
from atolld.core.lifecycle import ACTIVE_STATES, LIVE_STATES, Action, EndReason, SandboxState, transition
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Saved, Snapshot
from atolld.foundation.errors import FailedPrecondition, NotFound
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId
from atolld.storage import pausing
from atolld.storage.admission import admit
from atolld.storage.database import Database
from atolld.storage.events import append_event
from atolld.storage.guard import guarded, hold
from atolld.storage.idempotency import claim_or_replay, free_claims, purge_claims
from atolld.storage.query import list_sandboxes
from atolld.storage.rows import sandbox_from_row, sandbox_to_row
from atolld.storage.saves import LIVE, move_head, prune
from atolld.storage.schema import events, sandbox_metadata, sandboxes
from atolld.storage.store import Claim, Listed, SandboxQuery, Started
from atolld.storage.usage import record_usage

_INSERT = insert(sandboxes)
_INSERT_METADATA = insert(sandbox_metadata)
_ACTIVE = sorted(state.value for state in ACTIVE_STATES)
# Those that are there to be used: what is written of one that is being saved or brought up could be lost with it.
_USABLE = frozenset({SandboxState.RUNNING, SandboxState.FROZEN})


class SqlSandboxes:
    """Implements `SandboxStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, sandbox: Sandbox, claim: Claim | None = None) -> SandboxId:
        """See `SandboxStore.insert`."""

        return await self._database.write(lambda c: _insert(c, sandbox, claim))

    async def insert_running(
        self, sandbox: Sandbox, started: Started, event: Event, claim: Claim | None = None
    ) -> SandboxId:
        """See `SandboxStore.insert_running`."""

        def work(connection: Connection) -> SandboxId:
            id = _insert(connection, sandbox, claim, **_started(started))
            if id == sandbox.id:
                append_event(connection, event)
            return id

        return await self._database.write(work)

    async def discard(self, id: SandboxId) -> None:
        """See `SandboxStore.discard`."""

        def work(connection: Connection) -> None:
            row = hold(connection, id, {SandboxState.CREATING})
            free_claims(connection, id)
            connection.execute(delete(sandboxes).where(sandboxes.c.id == id))
            prune(connection, row.head_id)

        await self._database.write(work)

    async def mark_running(self, id: SandboxId, started: Started, event: Event) -> None:
        """See `SandboxStore.mark_running`."""
        await self._database.write(lambda c: _start(c, id, started, event))

    async def mark_stopping(self, id: SandboxId, source: SandboxState, reason: EndReason, message: str) -> None:
        """See `SandboxStore.mark_stopping`."""
        values = {"state": transition(source, Action.STOP).value, "end_reason": reason.value, "end_message": message}
        await self._write(id, {source}, None, **values)

    async def mark_ended(
        self,
        id: SandboxId,
        source: SandboxState,
        *,
        reason: EndReason,
        message: str,
        ended_at: float,
        metered_until: float,
        event: Event | None,
    ) -> None:
        """See `SandboxStore.mark_ended`."""
        target = transition(source, Action.ENDED)

        def work(connection: Connection) -> None:
            row = hold(connection, id, {source})
            guarded(
                connection,
                id,
                {source},
                state=target.value,
                end_reason=reason.value,
                end_message=message,
                ended_at=ended_at,
                expires_at=None,
                address=None,
                handle=None,
                agent_token="",
                traffic_token=None,
                save_id=None,
                pending_save_id=None,
                paused_at=None,
            )
            record_usage(connection, row, metered_until)
            pausing.forget_saves(connection, row.save_id, row.pending_save_id)
            prune(connection, row.head_id)
            if reason is EndReason.CREATE_FAILED:
                free_claims(connection, id)
            if event is not None:
                append_event(connection, event)

        await self._database.write(work)

    async def mark_frozen(self, id: SandboxId, event: Event) -> None:
        """See `SandboxStore.mark_frozen`."""
        await self._step(lambda c: pausing.freeze(c, id), event)

    async def mark_thawed(self, id: SandboxId, event: Event) -> None:
        """See `SandboxStore.mark_thawed`."""
        await self._step(lambda c: pausing.thaw(c, id), event)

    async def mark_pausing(self, id: SandboxId, source: SandboxState, snapshot: Snapshot) -> None:
        """See `SandboxStore.mark_pausing`."""
        await self._step(lambda c: pausing.begin_pause(c, id, source, snapshot), None)

    async def mark_paused(self, id: SandboxId, saved: Saved, paused_at: float, event: Event) -> None:
        """See `SandboxStore.mark_paused`."""
        await self._step(lambda c: pausing.finish_pause(c, id, saved, paused_at), event)

    async def mark_going_on(self, id: SandboxId, event: Event | None) -> None:
        """See `SandboxStore.mark_going_on`."""
        await self._step(lambda c: pausing.give_up_pause(c, id), event)

    async def mark_resuming(self, id: SandboxId, source: SandboxState, save_id: SnapshotId | None, now: float) -> None:
        """See `SandboxStore.mark_resuming`."""
        await self._step(lambda c: pausing.begin_resume(c, id, source, save_id, now), None)

    async def mark_resumed(self, id: SandboxId, started: Started, event: Event) -> None:
        """See `SandboxStore.mark_resumed`."""
        await self._step(lambda c: pausing.finish_resume(c, id, started), event)

    async def mark_given_back(self, id: SandboxId, paused_at: float) -> None:
        """See `SandboxStore.mark_given_back`."""
        await self._step(lambda c: pausing.give_back(c, id, paused_at), None)

    async def set_head(self, id: SandboxId, head_id: SnapshotId) -> None:
        """See `SandboxStore.set_head`."""
        await self._step(lambda c: move_head(c, id, head_id), None)

    async def set_lifecycle(
        self, id: SandboxId, source: SandboxState, lifecycle: Mapping[str, object], event: Event
    ) -> None:
        """See `SandboxStore.set_lifecycle`."""
        if source not in LIVE_STATES:
            raise FailedPrecondition(f"a sandbox that is {source.value} has no policy")
        await self._write(id, {source}, event, lifecycle=dict(lifecycle))

    async def set_expiry(self, id: SandboxId, *, timeout_s: int | None, expires_at: float | None, event: Event) -> None:
        """See `SandboxStore.set_expiry`."""
        await self._write(id, _USABLE, event, timeout_s=timeout_s, expires_at=expires_at)

    async def set_network(
        self, id: SandboxId, *, network: NetworkPolicy, traffic_token: str | None, event: Event
    ) -> None:
        """See `SandboxStore.set_network`."""
        await self._write(id, _USABLE, event, network=network.to_json(), traffic_token=traffic_token)

    async def _write(
        self, id: SandboxId, sources: Collection[SandboxState], event: Event | None, **values: object
    ) -> None:
        await self._step(lambda c: guarded(c, id, sources, **values), event)

    async def _step(self, change: Callable[[Connection], object], event: Event | None) -> None:
        def work(connection: Connection) -> None:
            change(connection)
            if event is not None:
                append_event(connection, event)

        await self._database.write(work)

    async def get(self, project_id: ProjectId, id: SandboxId) -> Sandbox:
        """See `SandboxStore.get`."""
        query = select(sandboxes).where(sandboxes.c.id == id, sandboxes.c.project_id == project_id)
        row = await self._database.read(lambda c: c.execute(query).first())
        if row is None:
            raise NotFound(f"there is no sandbox {id}")
        return sandbox_from_row(row)

    async def list(self, query: SandboxQuery) -> list[Listed]:
        """See `SandboxStore.list`."""
        return await self._database.read(lambda c: list_sandboxes(c, query))

    async def live(self) -> Sequence[Sandbox]:
        """See `SandboxStore.live`."""
        query = select(sandboxes).where(sandboxes.c.state.in_(LIVE)).order_by(sandboxes.c.created_at, sandboxes.c.id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [sandbox_from_row(row) for row in rows]

    async def seen(self, now: float) -> None:
        """See `SandboxStore.seen`."""
        change = update(sandboxes).where(sandboxes.c.state.in_(_ACTIVE)).values(seen_at=now)
        await self._database.write(lambda c: c.execute(change))

    async def meter(self, id: SandboxId, until: float) -> None:
        """See `SandboxStore.meter`."""

        def work(connection: Connection) -> None:
            row = hold(connection, id, ACTIVE_STATES)
            record_usage(connection, row, until)
            if until > row.metered_until:
                connection.execute(
                    update(sandboxes).where(sandboxes.c.id == id).values(metered_until=until, seen_at=until)
                )

        await self._database.write(work)

    async def last_seen(self, id: SandboxId) -> float | None:
        """See `SandboxStore.last_seen`."""
        query = select(sandboxes.c.seen_at).where(sandboxes.c.id == id)
        return await self._database.read(lambda c: c.execute(query).scalar())

    async def purge(self, *, ended_before: float, claims_before: float) -> int:
        """See `SandboxStore.purge`."""
        old = select(sandboxes.c.id).where(
            sandboxes.c.state == SandboxState.ENDED.value, sandboxes.c.ended_at < ended_before
        )

        def work(connection: Connection) -> int:
            purge_claims(connection, claims_before)
            connection.execute(delete(events).where(events.c.sandbox_id.in_(old)))
            return connection.execute(delete(sandboxes).where(sandboxes.c.id.in_(old))).rowcount

        return await self._database.write(work)


def _insert(connection: Connection, sandbox: Sandbox, claim: Claim | None, **columns: object) -> SandboxId:
    if claim is not None:
        earlier = claim_or_replay(connection, sandbox.project_id, claim, sandbox.id, sandbox.created_at)
        if earlier is not None:
            return earlier
    admit(connection, sandbox.project_id, sandbox.spec.resources)
    connection.execute(_INSERT, {**sandbox_to_row(sandbox), **columns})
    if sandbox.spec.metadata:
        connection.execute(
            _INSERT_METADATA,
            [{"sandbox_id": sandbox.id, "key": k, "value": v} for k, v in sandbox.spec.metadata.items()],
        )
    return sandbox.id


def _start(connection: Connection, id: SandboxId, started: Started, event: Event) -> None:
    guarded(connection, id, {SandboxState.CREATING}, **_started(started))
    append_event(connection, event)


def _started(started: Started) -> dict[str, object]:
    """The columns of one that was being created and runs now."""
    return {
        "state": transition(SandboxState.CREATING, Action.STARTED).value,
        "started_at": started.started_at,
        "listed_at": started.started_at,
        "metered_until": started.started_at,
        "seen_at": started.started_at,
        "expires_at": started.expires_at,
        "address": started.address,
        "handle": dict(started.handle),
    }
