"""Rows for tests: sandboxes in any state, snapshots, events, and a picture of the whole database."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select

from atolld.core.build import BuildSpec, BuildState, Built, Failure, ImageConfig
from atolld.core.defaults import GuestDefaults
from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy, OnTimeout
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.core.snapshot import Saved, SaveKind, Snapshot, SnapshotRole, SnapshotState
from atolld.core.template import Build, TemplateRecord
from atolld.foundation.ids import (
    BuildId,
    ProjectId,
    SnapshotId,
    TemplateId,
    new_build_id,
    new_event_id,
    new_sandbox_id,
    new_snapshot_id,
    new_template_id,
)
from atolld.storage.database import Database
from atolld.storage.sandboxes import SqlSandboxes
from atolld.storage.schema import metadata
from atolld.storage.snapshots import SqlSnapshots
from atolld.storage.store import Started
from atolld.storage.templates import SqlTemplates
from atolld.storage.templatestore import Memory

S = SandboxState
MIB = 1024 * 1024
STARTED = Started(10.0, 310.0, "10.0.0.2", {"driver": {"version": 1}, "machine": {"slot": 7}})
# More than 32 bits hold.
SAVED = Saved(SaveKind.MEMORY, 5 * 1024 * MIB, 3 * MIB, "gvisor 20240729", 0.125, ("sha256:aa", "sha256:bb"))
FAILURE = Failure("it broke \0", "3", 127, ("a", "\ud800"))
BUILT = Built(
    layers=("a" * 64, "b" * 64),
    defaults=GuestDefaults("app", "/srv", {"A": 'v"\\', "É": ""}),
    config=ImageConfig(
        cmd=("serve", "--all"),
        healthcheck={"Test": ["CMD", "true"], "Interval": 3},
        labels={"k": "v"},
        volumes=("/data",),
    ),
    size_bytes=5 * 1024 * MIB,
)


def new_sandbox(project_id: ProjectId, build_id: BuildId | None = None) -> Sandbox:
    """One of half a CPU and 256 MiB, as it is inserted."""
    spec = SandboxSpec(
        template="base",
        runtime="gvisor",
        resources=Resources(0.5, 256, 1024, 99),
        metadata={"k": 'v"\\', "é": ""},
        network=NetworkPolicy(internet=False, deny_out=("2606::/32",), mask_request_host="x:${PORT}"),
        secure=False,
        lifecycle=LifecyclePolicy(OnTimeout.PAUSE, keep_memory=False, idle_timeout_s=60, pause_after_s=600),
    )
    return Sandbox(
        new_sandbox_id(), project_id, TemplateId("t1"), "base", spec, S.CREATING, 5.0, "token", build_id=build_id
    )


def new_event(sandbox: Sandbox, type: EventType = EventType.CREATED) -> Event:
    return Event(new_event_id(), type, sandbox.project_id, sandbox.id, 1.0, {"n": [1, None, "x"]})


def new_snapshot(
    sandbox: Sandbox,
    role: SnapshotRole = SnapshotRole.SNAPSHOT,
    *,
    parent: SnapshotId | None = None,
    name: str | None = None,
    created_at: float = 20.0,
) -> Snapshot:
    return Snapshot(
        id=new_snapshot_id(),
        project_id=sandbox.project_id,
        sandbox_id=sandbox.id,
        parent_id=parent,
        role=role,
        state=SnapshotState.CREATING,
        kind=SaveKind.MEMORY,
        name=name,
        template_id=sandbox.template_id,
        template_name=sandbox.template_name,
        runtime=sandbox.spec.runtime,
        resources=sandbox.spec.resources,
        agent_token="saved-token",
        secure=False,
        created_at=created_at,
        build_id=sandbox.build_id,
    )


def new_template(project_id: ProjectId, name: str = "app", *, hidden: bool = False, at: float = 1.0) -> TemplateRecord:
    return TemplateRecord(new_template_id(), project_id, name, False, hidden, at, at)


def new_build(template: TemplateRecord, *tags: str, at: float = 2.0) -> Build:
    """As it is requested."""
    spec = BuildSpec("container", Resources(0.5, 256, 1024, 99))
    return Build(new_build_id(), template.id, template.project_id, BuildState.WAITING, spec, at, tags)


async def build_up(
    database: Database,
    template: TemplateRecord,
    *tags: str,
    state: BuildState = BuildState.READY,
    at: float = 2.0,
    memory: SnapshotId | None = None,
) -> Build:
    """A build of the template (made when it is not there) that has come to `state` by the usual way."""
    store = SqlTemplates(database)
    _, build = await store.request(template, new_build(template, *tags, at=at))
    if state is not BuildState.WAITING:
        build = await store.begin(build.id, "serve", "true")
    if state is BuildState.READY:
        return await store.finish(build.id, BUILT, at + 1, None if memory is None else Memory(memory, SAVED))
    if state is BuildState.FAILED:
        return await store.fail(build.id, FAILURE, at + 1)
    return build


async def take(
    database: Database,
    sandbox: Sandbox,
    role: SnapshotRole = SnapshotRole.SNAPSHOT,
    *,
    parent: SnapshotId | None = None,
    name: str | None = None,
    created_at: float = 20.0,
) -> SnapshotId:
    """A ready snapshot of `sandbox`."""
    snapshot = new_snapshot(sandbox, role, parent=parent, name=name, created_at=created_at)
    store = SqlSnapshots(database)
    await store.insert(snapshot)
    await store.mark_ready(snapshot.id, SAVED, None)
    return snapshot.id


async def remove(database: Database, *ids: SnapshotId) -> None:
    """Delete ready snapshots, files and all."""
    store = SqlSnapshots(database)
    for id in ids:
        await store.mark_deleting(id)
        await store.mark_deleted(id)


async def pause(database: Database, sandbox: Sandbox, at: float = 50.0) -> SnapshotId:
    """Pause a running sandbox; the id of its save."""
    store = SqlSandboxes(database)
    row = await store.get(sandbox.project_id, sandbox.id)
    snapshot = new_snapshot(sandbox, SnapshotRole.PAUSE, parent=row.head_id, created_at=at)
    await store.mark_pausing(sandbox.id, S.RUNNING, snapshot)
    await store.mark_paused(sandbox.id, SAVED, at, new_event(sandbox, EventType.PAUSED))
    return snapshot.id


async def resume(
    database: Database, sandbox: Sandbox, source: S = S.PAUSED, save_id: SnapshotId | None = None, at: float = 60.0
) -> None:
    """Resume a paused sandbox, or roll back one in `source`."""
    store = SqlSandboxes(database)
    await store.mark_resuming(sandbox.id, source, save_id, at)
    await store.mark_resumed(sandbox.id, replace(STARTED, started_at=at), new_event(sandbox, EventType.RESUMED))


async def end(store: SqlSandboxes, sandbox: Sandbox, source: SandboxState, until: float = 110.0) -> None:
    await store.mark_ended(
        sandbox.id,
        source,
        reason=EndReason.KILLED,
        message="bye",
        ended_at=until,
        metered_until=until,
        event=new_event(sandbox, EventType.KILLED),
    )


async def bring(
    database: Database, project_id: ProjectId, state: SandboxState, build_id: BuildId | None = None
) -> Sandbox:
    """A sandbox that has come to `state` by the usual way."""
    store = SqlSandboxes(database)
    sandbox = new_sandbox(project_id, build_id)
    await store.insert(sandbox)
    if state is S.CREATING:
        return sandbox
    await store.mark_running(sandbox.id, STARTED, new_event(sandbox))
    if state is S.FROZEN:
        await store.mark_frozen(sandbox.id, new_event(sandbox, EventType.FROZEN))
    elif state is S.PAUSING:
        await store.mark_pausing(sandbox.id, S.RUNNING, new_snapshot(sandbox, SnapshotRole.PAUSE))
    elif state in (S.PAUSED, S.RESUMING):
        await pause(database, sandbox)
    if state is S.RESUMING:
        await store.mark_resuming(sandbox.id, S.PAUSED, None, 55.0)
    if state in (S.STOPPING, S.ENDED):
        await store.mark_stopping(sandbox.id, S.RUNNING, EndReason.KILLED, "bye")
    if state is S.ENDED:
        await end(store, sandbox, S.STOPPING)
    return sandbox


async def dump(database: Database) -> dict[str, list[str]]:
    """Every row of every table."""

    def work(connection: Connection) -> dict[str, list[str]]:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }

    return await database.read(work)
