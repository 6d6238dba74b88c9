"""The memory that sandboxes of a build go on from: saved of a sandbox that no row knows.

Its row is `creating` from before it is written until the transaction that makes the build ready makes it ready, too;
whatever ends the daemon in between, the next one gives it up.
"""

from __future__ import annotations

from typing import Protocol

from atolld.control.powers import Powers
from atolld.control.saves import Garbage
from atolld.control.telemetry import Telemetry
from atolld.core.snapshot import SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.core.template import Build
from atolld.foundation.clock import Clock
from atolld.foundation.crash import crash_point
from atolld.foundation.errors import AtollError, Conflict, Internal, NotFound
from atolld.foundation.ids import SandboxId, SnapshotId, new_snapshot_id
from atolld.node.interface import After, Node
from atolld.runtime.driver import Power
from atolld.storage.store import SnapshotStore
from atolld.storage.templatestore import Memory, TemplateRecordStore

_HINT = "; leave out the start and the ready command, and sandboxes of it boot"


class Saveable(Protocol):
    """A sandbox that was launched for a build. `token`: what its agent knows."""

    @property
    def id(self) -> SandboxId: ...

    @property
    def token(self) -> str: ...


class TemplateSaves:
    """Takes them, and gives them up."""

    def __init__(
        self,
        *,
        templates: TemplateRecordStore,
        snapshots: SnapshotStore,
        node: Node,
        powers: Powers,
        garbage: Garbage,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._templates = templates
        self._snapshots = snapshots
        self._node = node
        self._powers = powers
        self._garbage = garbage
        self._clock = clock
        self._telemetry = telemetry

    async def check(self, runtime: str) -> None:
        """Raises FailedPrecondition when `runtime` cannot save memory, NotFound without it."""
        await self._powers.require(runtime, Power.CHECKPOINT, _HINT)

    async def take(self, build: Build, sandbox: Saveable) -> SnapshotId:
        """Save `sandbox` as what sandboxes of `build` go on from; it goes on, to be terminated: one that stood still
        then would have its address kept for it.

        Raises as `check`, LimitExceeded (the project's saves), NotFound (the template was deleted), and as `Node.save`;
        nothing of the save is left then.
        """
        await self.check(build.spec.runtime)
        record = await self._templates.find(build.template_id)
        if record is None:
            raise NotFound("the template was deleted while it was built")
        draft = Snapshot(
            id=new_snapshot_id(),
            project_id=build.project_id,
            sandbox_id=sandbox.id,
            parent_id=None,
            role=SnapshotRole.TEMPLATE,
            state=SnapshotState.CREATING,
            kind=SaveKind.MEMORY,
            name=None,
            template_id=record.id,
            template_name=record.name,
            runtime=build.spec.runtime,
            resources=build.spec.resources,
            agent_token=sandbox.token,
            secure=True,
            created_at=self._clock.now(),
            build_id=build.id,
        )
        await self._snapshots.insert(draft)
        crash_point("template_save.after_insert")
        labels = {"runtime": build.spec.runtime}
        try:
            saved = await self._node.save(sandbox.id, draft.id, SaveKind.MEMORY, After.GO_ON)
        except BaseException as error:
            self._telemetry.count("snapshots", {**labels, "outcome": "failed"})
            await self._give_up(draft.id, error)
            raise
        crash_point("template_save.after_save")
        self._telemetry.count("snapshots", {**labels, "outcome": "ok"})
        self._telemetry.observe("sandbox_stopped_seconds", saved.stopped_s, {**labels, "purpose": "template"})
        return draft.id

    async def memory(self, id: SnapshotId) -> Memory:
        """What `take` saved, for `TemplateRecordStore.finish`. Raises Internal when it is not whole on disk."""
        saved = await self._node.saved(id)
        if saved is None:
            raise Internal(f"the saved memory {id} is not on this machine any more")
        return Memory(id, saved)

    async def give_up(self, id: SnapshotId) -> None:
        """The build came to nothing after all: its files go. Given up already is success."""
        try:
            await self._snapshots.mark_deleting(id)
        except Conflict:
            return
        self._garbage.wake()

    async def _give_up(self, id: SnapshotId, error: BaseException) -> None:
        try:
            await self.give_up(id)
        except AtollError as failure:
            # The next daemon finds it half written.
            error.add_note(f"and its row could not be given up: {failure!r}")
