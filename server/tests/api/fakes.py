"""Use cases of snapshots, pools and states that keep what they were asked: for tests of what the routes translate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from atolld.control.pools import PoolStatus
from atolld.control.resuming import Unchanged
from atolld.control.snapshots import SnapshotPage
from atolld.core.lifecycle import SandboxState
from atolld.core.policy import LifecyclePolicy
from atolld.core.pool import Pool
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.core.snapshot import (
    FileChange,
    FileDiff,
    Saved,
    SaveKind,
    Snapshot,
    SnapshotRole,
    SnapshotState,
)
from atolld.foundation.errors import AtollError, Capacity, FailedPrecondition, NotFound, PermissionDenied
from atolld.foundation.ids import PoolId, ProjectId, SandboxId, SnapshotId, TemplateId

SNAPSHOT = Snapshot(
    id=SnapshotId("s" + "1" * 19),
    project_id=ProjectId("p"),
    sandbox_id=SandboxId("i" + "0" * 19),
    parent_id=None,
    role=SnapshotRole.SNAPSHOT,
    state=SnapshotState.READY,
    kind=SaveKind.MEMORY,
    name="team/box:v1",
    template_id=TemplateId("t"),
    template_name="base",
    runtime="fake",
    resources=Resources(2.0, 256, 1024, 64),
    agent_token="the-token",
    secure=True,
    created_at=1.0,
    saved=Saved(SaveKind.MEMORY, 1000, 24, "fake 1", 0.0123456),
)


@dataclass
class FakeSnapshots:
    """Implements what the routes call of `Snapshots`; `asked` are the calls, `all` what there is."""

    all: list[Snapshot] = field(default_factory=list)
    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def create(
        self, project_id: ProjectId, sandbox_id: SandboxId, name: str | None = None, kind: SaveKind = SaveKind.MEMORY
    ) -> Snapshot:
        self.asked.append(("create", sandbox_id, name, kind))
        return replace(SNAPSHOT, sandbox_id=sandbox_id, name=name, kind=kind)

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        self.asked.append(("get", id_or_name))
        for one in self.all:
            if id_or_name in (one.id, one.name):
                return one
        raise NotFound(f"there is no snapshot {id_or_name!r}")

    async def list(
        self,
        project_id: ProjectId,
        *,
        sandbox_id: SandboxId | None = None,
        name: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SnapshotPage:
        self.asked.append(("list", sandbox_id, name, limit, cursor))
        return SnapshotPage(self.all, "next")

    async def export(self, project_id: ProjectId, id_or_name: str) -> AsyncIterator[bytes]:
        found = await self.get(project_id, id_or_name)
        return self._archive(found)

    async def _archive(self, found: Snapshot) -> AsyncIterator[bytes]:
        if found.saved is None:
            raise FailedPrecondition("it is damaged")
        yield b"head"
        for _ in range(3):
            yield b"x" * 100_000

    async def import_(self, project_id: ProjectId, name: str | None, stream: AsyncIterator[bytes]) -> Snapshot:
        head = await anext(stream, b"")
        if head.startswith(b"untrusted"):
            raise PermissionDenied("it is signed by somebody")
        size = len(head) + sum([len(piece) async for piece in stream])
        self.asked.append(("import", name, size))
        return replace(SNAPSHOT, name=name)

    async def delete(self, project_id: ProjectId, id_or_name: str) -> None:
        self.asked.append(("delete", id_or_name))

    async def tree(self, project_id: ProjectId, sandbox_id: SandboxId) -> Sequence[Snapshot]:
        self.asked.append(("tree", sandbox_id))
        return self.all

    async def diff(
        self, project_id: ProjectId, newer: str, older: str | None = None, limit: int = 1000
    ) -> Sequence[FileDiff]:
        self.asked.append(("diff", newer, older, limit))
        return [FileDiff("/a", FileChange.ADDED, 5), FileDiff("/b", FileChange.REMOVED, 0)]

    async def saved_as(self, sandbox: Sandbox) -> SaveKind | None:
        return next((one.kind for one in self.all if one.id == sandbox.save_id), None)


@dataclass
class FakePools:
    """Implements `Pools`; the last pool that was set is all there is."""

    status: PoolStatus | None = None

    async def set(
        self, project_id: ProjectId, template: str, runtime: str, resources: Resources, ready: int
    ) -> PoolStatus:
        pool = Pool(PoolId("p" + "0" * 19), project_id, template, runtime, resources, ready, 1.0)
        pool.check()
        self.status = PoolStatus(pool, 1, 2, 3, 4, "no room")
        return self.status

    async def list(self, project_id: ProjectId) -> Sequence[PoolStatus]:
        return [] if self.status is None else [self.status]

    async def get(self, project_id: ProjectId, id: PoolId) -> PoolStatus:
        if self.status is None or id != self.status.pool.id:
            raise NotFound(f"there is no pool {id}")
        return self.status

    async def delete(self, project_id: ProjectId, id: PoolId) -> None:
        await self.get(project_id, id)
        self.status = None


@dataclass
class FakeStates:
    """Implements what the routes of `states` call of `Sandboxes`, with one running sandbox."""

    sandbox: Sandbox = field(
        default_factory=lambda: Sandbox(
            SandboxId("i" + "0" * 19),
            ProjectId("p"),
            TemplateId("t"),
            "base",
            SandboxSpec(),
            SandboxState.RUNNING,
            1.0,
            "x",
        )
    )
    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def pause(self, project_id: ProjectId, id: SandboxId, kind: SaveKind = SaveKind.MEMORY) -> Sandbox:
        self.asked.append(("pause", kind))
        if self.sandbox.state is not SandboxState.RUNNING:
            raise FailedPrecondition("it is paused already", state=self.sandbox.state.value)
        return self._became(SandboxState.PAUSED)

    async def resume(
        self,
        project_id: ProjectId,
        id: SandboxId,
        timeout_s: int | None | Unchanged = Unchanged.TIMEOUT,
        kind: SaveKind | None = None,
    ) -> Sandbox:
        self.asked.append(("resume", timeout_s, kind))
        return self._became(SandboxState.RUNNING)

    async def freeze(self, project_id: ProjectId, id: SandboxId) -> Sandbox:
        self.asked.append(("freeze",))
        return self._became(SandboxState.FROZEN)

    async def fork(
        self,
        project_id: ProjectId,
        id: SandboxId,
        count: int = 1,
        timeout_s: int | None | Unchanged = Unchanged.TIMEOUT,
    ) -> Sequence[Sandbox | AtollError]:
        self.asked.append(("fork", count, timeout_s))
        return [self.sandbox, Capacity("no room", needed_mib=5)]

    async def rollback(self, project_id: ProjectId, id: SandboxId, snapshot: str) -> Sandbox:
        self.asked.append(("rollback", snapshot))
        return self.sandbox

    async def set_lifecycle(
        self, project_id: ProjectId, id: SandboxId, change: Callable[[LifecyclePolicy], LifecyclePolicy]
    ) -> Sandbox:
        policy = change(self.sandbox.spec.lifecycle)
        policy.check()
        self.sandbox = replace(self.sandbox, spec=replace(self.sandbox.spec, lifecycle=policy))
        return self.sandbox

    def _became(self, state: SandboxState) -> Sandbox:
        self.sandbox = replace(self.sandbox, state=state, paused_at=2.0 if state is SandboxState.PAUSED else None)
        return self.sandbox
