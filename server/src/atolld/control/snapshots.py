"""Snapshots: what users keep of their sandboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from atolld.control.archives import draft_import, facts_of
from atolld.control.cursors import bad_cursor, check_limit, decode_place, encode_place
from atolld.control.live import Live, LiveTable, gone, not_in_state
from atolld.control.pausing import Pausing
from atolld.control.powers import Powers
from atolld.control.records import checkpointed_event
from atolld.control.saves import Garbage, draft_save
from atolld.control.tasks import uninterrupted
from atolld.control.telemetry import Telemetry
from atolld.core.lifecycle import SandboxState
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import FileDiff, Saved, SaveKind, Snapshot, SnapshotRole, check_snapshot_name
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, Conflict, FailedPrecondition, NotFound
from atolld.foundation.ids import ProjectId, SandboxId, SnapshotId, is_snapshot_id, new_snapshot_id
from atolld.node.interface import After, Node
from atolld.runtime.driver import Power
from atolld.storage.store import SandboxStore, SnapshotPosition, SnapshotQuery, SnapshotStore

MAX_DIFF = 10_000


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Snapshots, newest first, and where to go on (None: that was all)."""

    items: Sequence[Snapshot]
    next_cursor: str | None


class Snapshots:
    """The snapshots of all projects."""

    def __init__(
        self,
        *,
        store: SnapshotStore,
        sandboxes: SandboxStore,
        node: Node,
        table: LiveTable,
        pausing: Pausing,
        garbage: Garbage,
        powers: Powers,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._node = node
        self._table = table
        self._pausing = pausing
        self._garbage = garbage
        self._powers = powers
        self._clock = clock
        self._telemetry = telemetry

    async def create(
        self, project_id: ProjectId, sandbox_id: SandboxId, name: str | None = None, kind: SaveKind = SaveKind.MEMORY
    ) -> Snapshot:
        """Keep a running sandbox as it is now; it goes on. A name that another snapshot has moves to this one.

        Raises NotFound, InvalidArgument (name), FailedPrecondition (it does not run, the runtime cannot, or the guest
        holds what cannot be saved), LimitExceeded, Capacity.
        """
        if name is not None:
            check_snapshot_name(name)
        live = self._table.get(project_id, sandbox_id)
        return await self.take(live, SnapshotRole.SNAPSHOT, kind, name)

    async def take(self, live: Live, role: SnapshotRole, kind: SaveKind, name: str | None = None) -> Snapshot:
        """Save a live sandbox that goes on; finished although the caller is cancelled. Raises as `create`."""
        if kind is SaveKind.MEMORY:
            hint = "; ask for kind 'filesystem' to keep its files"
            await self._powers.require(live.sandbox.spec.runtime, Power.CHECKPOINT, hint)
        return await uninterrupted(self._take(live, role, kind, name), name=f"snapshot-{live.id}")

    async def _take(self, live: Live, role: SnapshotRole, kind: SaveKind, name: str | None) -> Snapshot:
        async with live.lock:
            if live.state is SandboxState.FROZEN:
                await self._pausing.thaw(live)
            if live.state is not SandboxState.RUNNING:
                raise not_in_state(live, "cannot be saved; resume it first")
            # What was taken last is the parent, also when two are taken at once: the later one waits for its turn.
            draft = draft_save(live.sandbox, role, kind, self._clock.now(), name)
            await self._store.insert(draft)
        crash_point("snapshot.after_insert")
        try:
            saved = await self._node.save(live.id, draft.id, kind, After.GO_ON)
            crash_point("snapshot.after_save")
            event = None
            if role is SnapshotRole.SNAPSHOT:
                event = checkpointed_event(live.sandbox, self._clock.now(), draft, saved)
            await self._store.mark_ready(draft.id, saved, event)
        except BaseException as error:
            self._telemetry.count("snapshots", {"runtime": draft.runtime, "outcome": "failed"})
            try:
                await self._store.mark_deleting(draft.id)
            except AtollError as failure:
                error.add_note(f"and its row could not be given up: {failure!r}")
            self._garbage.wake()
            if live.state in (SandboxState.STOPPING, SandboxState.ENDED):
                raise gone(live.id) from error
            raise
        crash_point("snapshot.after_ready")
        labels = {"runtime": draft.runtime}
        self._telemetry.count("snapshots", {**labels, "outcome": "ok"})
        self._telemetry.observe("sandbox_stopped_seconds", saved.stopped_s, {**labels, "purpose": role.value})
        if role is SnapshotRole.SNAPSHOT:
            async with live.lock:
                live.update(head_id=draft.id)
        found = await self._store.find(draft.id)
        if found is None:
            raise NotFound(f"snapshot {draft.id} was deleted as soon as it was made")
        return found

    async def forget(self, snapshot: Snapshot) -> None:
        """Delete one that was made for a moment; gone is success."""
        try:
            await self._store.mark_deleting(snapshot.id)
        except Conflict:
            return
        self._garbage.wake()

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        """Raises NotFound."""
        found = await self._store.get(project_id, id_or_name)
        if found.role is not SnapshotRole.SNAPSHOT:
            # A pause's save is its sandbox's own; nobody starts from it, deletes it or rolls back to it by name.
            raise NotFound(f"there is no snapshot {id_or_name[:128]!r}")
        return found

    async def saved_as(self, sandbox: Sandbox) -> SaveKind | None:
        """What the save that a paused sandbox resumes from holds; None for one that is not paused."""
        if sandbox.state is not SandboxState.PAUSED or sandbox.save_id is None:
            return None
        found = await self._store.find(sandbox.save_id)
        return None if found is None else found.kind

    async def of_tree(self, project_id: ProjectId, sandbox_id: SandboxId, id_or_name: str) -> Snapshot:
        """A snapshot that a sandbox can be rolled back to. Raises NotFound, FailedPrecondition when it is none."""
        found = await self.get(project_id, id_or_name)
        if found.sandbox_id != sandbox_id and found.id not in {
            one.id for one in await self._store.tree(project_id, sandbox_id)
        }:
            raise FailedPrecondition(
                f"snapshot {id_or_name[:128]!r} is of another sandbox ({found.sandbox_id}); create a sandbox from it"
            )
        return found

    async def list(
        self,
        project_id: ProjectId,
        *,
        sandbox_id: SandboxId | None = None,
        name: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SnapshotPage:
        """Newest first. Raises InvalidArgument on a limit outside 1 to 100 or a cursor that is none of ours."""
        check_limit(limit)
        after = decode_cursor(cursor) if cursor else None
        query = SnapshotQuery(project_id, sandbox_id, name, limit=limit + 1, after=after)
        found = await self._store.list(query)
        page = found[:limit]
        return SnapshotPage(page, encode_cursor(page[-1]) if len(found) > limit else None)

    async def delete(self, project_id: ProjectId, id_or_name: str) -> None:
        """It is gone for every caller at once; its files go when nothing starts from them any more. Raises NotFound."""
        found = await self.get(project_id, id_or_name)
        await self._store.mark_deleting(found.id)
        crash_point("snapshot.after_deleting")
        self._garbage.wake()

    async def tree(self, project_id: ProjectId, sandbox_id: SandboxId) -> Sequence[Snapshot]:
        """The tree of checkpoints that a sandbox (also an ended one) belongs to, oldest first. Raises NotFound."""
        await self._sandboxes.get(project_id, sandbox_id)
        return await self._store.tree(project_id, sandbox_id)

    async def diff(
        self, project_id: ProjectId, newer: str, older: str | None = None, limit: int = 1000
    ) -> Sequence[FileDiff]:
        """What files differ; `older` None: against the template. Raises NotFound, FailedPrecondition (other templates),
        InvalidArgument (limit not 1 to 10,000)."""
        check_limit(limit, MAX_DIFF)
        found = await self.get(project_id, newer)
        base = await self.get(project_id, older) if older is not None else None
        return await self._node.diff_saves(base.id if base is not None else None, found.id, limit)

    async def export(self, project_id: ProjectId, id_or_name: str) -> AsyncIterator[bytes]:
        """The snapshot as one stream (not encrypted: that is the caller's part). Raises NotFound before the first
        byte."""
        found = await self.get(project_id, id_or_name)
        return self._node.export_save(found.id, facts_of(found))

    async def import_(self, project_id: ProjectId, name: str | None, stream: AsyncIterator[bytes]) -> Snapshot:
        """Store what `export` gave, here or on another machine. A name that another snapshot has moves to this one.

        Raises as `Node.import_save`, and LimitExceeded; nothing is left then.
        """
        if name is not None:
            check_snapshot_name(name)
        id = new_snapshot_id()

        async def admit(facts: Mapping[str, object], saved: Saved) -> None:
            await self._store.insert(draft_import(id, project_id, name, facts, saved))
            crash_point("import.after_insert")

        try:
            saved = await self._node.import_save(id, stream, admit)
            crash_point("import.after_save")
            # No head of a sandbox: its source is elsewhere, or goes on from where it was here.
            await self._store.mark_ready(id, saved, None, moves_head=False)
        except BaseException as error:
            await self._give_up(id, error)
            raise
        found = await self._store.find(id)
        if found is None:
            raise NotFound(f"snapshot {id} was deleted as soon as it was imported")
        return found

    async def _give_up(self, id: SnapshotId, error: BaseException) -> None:
        try:
            await self._store.mark_deleting(id)
        except Conflict:
            # It was refused before it had a row.
            return
        except AtollError as failure:
            error.add_note(f"and its row could not be given up: {failure!r}")
        self._garbage.wake()


def encode_cursor(last: Snapshot) -> str:
    """The place behind `last` as opaque text of URL-safe characters."""
    return encode_place(last.created_at, last.id)


def decode_cursor(cursor: str) -> SnapshotPosition:
    """Raises InvalidArgument when `cursor` was not made by `encode_cursor`."""
    created_at, id = decode_place(cursor)
    if not is_snapshot_id(id):
        raise bad_cursor(cursor)
    return SnapshotPosition(created_at, SnapshotId(id))
