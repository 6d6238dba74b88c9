"""The memory that the sandboxes of a build go on from: a snapshot of a sandbox that has no row of its own."""

from __future__ import annotations

from atolld.control.builds.sandbox import StepSandbox
from atolld.control.saves import Garbage
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.core.template import Build
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, Conflict
from atolld.foundation.ids import SnapshotId, new_snapshot_id
from atolld.node.interface import After, Node
from atolld.storage.store import SnapshotStore
from atolld.storage.templatestore import Memory


class TemplateSaves:
    """Implements `atolld.control.builds.work.Saves`."""

    def __init__(self, store: SnapshotStore, node: Node, garbage: Garbage, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._garbage = garbage
        self._clock = clock

    async def take(self, build: Build, template_name: str, sandbox: StepSandbox) -> Memory:
        """See `Saves.take`."""
        draft = Snapshot(
            id=new_snapshot_id(),
            project_id=build.project_id,
            sandbox_id=sandbox.id,
            parent_id=None,
            role=SnapshotRole.TEMPLATE,
            state=SnapshotState.CREATING,
            kind=SaveKind.MEMORY,
            name=None,
            template_id=build.template_id,
            template_name=template_name,
            runtime=build.spec.runtime,
            resources=build.spec.resources,
            agent_token=sandbox.token,
            secure=True,
            created_at=self._clock.now(),
            build_id=build.id,
        )
        await self._store.insert(draft)
        crash_point("build.after_draft")
        try:
            # One that stood still when it is ended would have its address kept for it.
            saved = await self._node.save(sandbox.id, draft.id, SaveKind.MEMORY, After.GO_ON)
        except BaseException as error:
            await self._forget(draft.id, error)
            raise
        crash_point("build.after_save")
        return Memory(draft.id, saved)

    async def give_up(self, save_id: SnapshotId) -> None:
        """See `Saves.give_up`."""
        try:
            await self._store.mark_deleting(save_id)
        except Conflict:
            return
        self._garbage.wake()

    async def _forget(self, save_id: SnapshotId, error: BaseException) -> None:
        try:
            await self.give_up(save_id)
        except AtollError as failure:
            error.add_note(f"and its row could not be given up: {failure!r}")
