"""Sandboxes in SQL: the guarded writes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from atolld.core.event import Event
from atolld.core.lifecycle import LIVE_STATES, Action, EndReason, SandboxState, transition
from atolld.core.network import NetworkPolicy
from atolld.core.sandbox import Sandbox
from atolld.foundation.errors import Conflict, NotFound
from atolld.foundation.ids import ProjectId, SandboxId
from atolld.storage.admission import admit
from atolld.storage.database import Database
from atolld.storage.events import append_event
from atolld.storage.idempotency import claim_or_replay, free_claims, purge_claims
from atolld.storage.query import list_sandboxes
from atolld.storage.rows import sandbox_from_row, sandbox_to_row
from atolld.storage.schema import events, sandbox_metadata, sandboxes
from atolld.storage.store import Claim, Listed, SandboxQuery, Started
from atolld.storage.usage import record_usage

_INSERT = insert(sandboxes)
_INSERT_METADATA = insert(sandbox_metadata)
_LIVE = [state.value for state in LIVE_STATES]


class SqlSandboxes:
    """Implements `SandboxStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, sandbox: Sandbox, claim: Claim | None = None) -> SandboxId:
        """See `SandboxStore.insert`."""

        def work(connection: Connection) -> SandboxId:
            if claim is not None:
                earlier = claim_or_replay(connection, sandbox.project_id, claim, sandbox.id, sandbox.created_at)
                if earlier is not None:
                    return earlier
            admit(connection, sandbox.project_id, sandbox.spec.resources)
            connection.execute(_INSERT, sandbox_to_row(sandbox))
            if sandbox.spec.metadata:
                connection.execute(
                    _INSERT_METADATA,
                    [{"sandbox_id": sandbox.id, "key": k, "value": v} for k, v in sandbox.spec.metadata.items()],
                )
            return sandbox.id

        return await self._database.write(work)

    async def discard(self, id: SandboxId) -> None:
        """See `SandboxStore.discard`."""
        change = delete(sandboxes).where(sandboxes.c.id == id, sandboxes.c.state == SandboxState.CREATING.value)

        def work(connection: Connection) -> None:
            free_claims(connection, id)
            if connection.execute(change).rowcount == 0:
                raise _moved_on(id, SandboxState.CREATING)

        await self._database.write(work)

    async def mark_running(self, id: SandboxId, started: Started, event: Event) -> None:
        """See `SandboxStore.mark_running`."""
        target = transition(SandboxState.CREATING, Action.STARTED)

        def work(connection: Connection) -> None:
            _guarded(
                connection,
                id,
                SandboxState.CREATING,
                state=target.value,
                started_at=started.started_at,
                listed_at=started.started_at,
                metered_until=started.started_at,
                seen_at=started.started_at,
                expires_at=started.expires_at,
                address=started.address,
                handle=dict(started.handle),
            )
            append_event(connection, event)

        await self._database.write(work)

    async def mark_stopping(self, id: SandboxId, source: SandboxState, reason: EndReason, message: str) -> None:
        """See `SandboxStore.mark_stopping`."""
        target = transition(source, Action.STOP)

        def work(connection: Connection) -> None:
            _guarded(connection, id, source, state=target.value, end_reason=reason.value, end_message=message)

        await self._database.write(work)

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
            row = _guarded(
                connection,
                id,
                source,
                state=target.value,
                end_reason=reason.value,
                end_message=message,
                ended_at=ended_at,
                expires_at=None,
                address=None,
                handle=None,
                agent_token="",
                traffic_token=None,
            )
            record_usage(connection, row, metered_until)
            if reason is EndReason.CREATE_FAILED:
                free_claims(connection, id)
            if event is not None:
                append_event(connection, event)

        await self._database.write(work)

    async def set_expiry(self, id: SandboxId, *, timeout_s: int | None, expires_at: float | None, event: Event) -> None:
        """See `SandboxStore.set_expiry`."""
        await self._change(id, event, timeout_s=timeout_s, expires_at=expires_at)

    async def set_network(
        self, id: SandboxId, *, network: NetworkPolicy, traffic_token: str | None, event: Event
    ) -> None:
        """See `SandboxStore.set_network`."""
        await self._change(id, event, network=network.to_json(), traffic_token=traffic_token)

    async def _change(self, id: SandboxId, event: Event, **values: object) -> None:
        def work(connection: Connection) -> None:
            _guarded(connection, id, SandboxState.RUNNING, **values)
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
        query = select(sandboxes).where(sandboxes.c.state.in_(_LIVE)).order_by(sandboxes.c.created_at, sandboxes.c.id)
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [sandbox_from_row(row) for row in rows]

    async def seen(self, now: float) -> None:
        """See `SandboxStore.seen`."""
        change = update(sandboxes).where(sandboxes.c.state == SandboxState.RUNNING.value).values(seen_at=now)
        await self._database.write(lambda c: c.execute(change))

    async def meter(self, id: SandboxId, until: float) -> None:
        """See `SandboxStore.meter`."""

        def work(connection: Connection) -> None:
            query = select(sandboxes).where(sandboxes.c.id == id, sandboxes.c.state == SandboxState.RUNNING.value)
            row = connection.execute(query.with_for_update()).first()
            if row is None:
                raise _moved_on(id, SandboxState.RUNNING)
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


def _guarded(connection: Connection, id: SandboxId, source: SandboxState, **values: object) -> Row[Any]:
    parameters = {f"new_{name}": value for name, value in values.items()}
    change = _guarded_update(tuple(values))
    row = connection.execute(change, {"guard_id": id, "guard_state": source.value, **parameters}).first()
    if row is None:
        raise _moved_on(id, source)
    return row


@cache
def _guarded_update(names: tuple[str, ...]) -> ReturningUpdate[Any]:
    # Kept by the columns it sets: building a statement costs as much as running it.
    table = sandboxes.c
    return (
        update(sandboxes)
        .where(table.id == bindparam("guard_id"), table.state == bindparam("guard_state"))
        .values({name: bindparam(f"new_{name}", type_=table[name].type) for name in names})
        .returning(table.id, table.project_id, table.cpu, table.memory_mib, table.metered_until)
    )


def _moved_on(id: SandboxId, source: SandboxState) -> Conflict:
    return Conflict(f"sandbox {id} is no longer {source.value}: something else changed it first")
