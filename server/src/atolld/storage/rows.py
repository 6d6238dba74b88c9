"""Between rows and values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.policy import LifecyclePolicy
from atolld.core.pool import Pool
from atolld.core.project import ApiKey, Project, ProjectLimits
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.core.snapshot import Saved, SaveKind, Snapshot, SnapshotRole, SnapshotState, plain_name
from atolld.foundation.ids import EventId, KeyId, PoolId, ProjectId, SandboxId, SnapshotId, TemplateId


def project_from_row(row: Row[Any]) -> Project:
    """A row of `projects`."""
    limits = ProjectLimits(
        max_sandboxes=row.max_sandboxes,
        max_cpu=row.max_cpu,
        max_memory_mib=row.max_memory_mib,
        max_snapshots=row.max_snapshots,
        max_saved_mib=row.max_saved_mib,
    )
    return Project(ProjectId(row.id), row.name, limits)


def key_from_row(row: Row[Any]) -> ApiKey:
    """A row of `api_keys`."""
    return ApiKey(
        id=KeyId(row.id),
        project_id=ProjectId(row.project_id),
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def sandbox_to_row(sandbox: Sandbox) -> dict[str, object]:
    """The columns of a sandbox that is inserted, in `creating`."""
    spec = sandbox.spec
    return {
        "id": sandbox.id,
        "project_id": sandbox.project_id,
        "template_id": sandbox.template_id,
        "template_name": sandbox.template_name,
        "runtime": spec.runtime,
        **resource_columns(spec.resources),
        "timeout_s": spec.timeout_s,
        "metadata": dict(spec.metadata),
        "network": spec.network.to_json(),
        "secure": spec.secure,
        "state": SandboxState.CREATING.value,
        "agent_token": sandbox.agent_token,
        "traffic_token": sandbox.traffic_token,
        "created_at": sandbox.created_at,
        "listed_at": sandbox.created_at,
        "lifecycle": spec.lifecycle.to_json(),
        "save_id": sandbox.save_id,
        "head_id": sandbox.head_id,
        "build_id": sandbox.build_id,
    }


def sandbox_from_row(row: Row[Any]) -> Sandbox:
    """A row of `sandboxes`; `spec.envs` is empty, for environment variables are not stored."""
    return Sandbox(
        id=SandboxId(row.id),
        project_id=ProjectId(row.project_id),
        template_id=TemplateId(row.template_id),
        template_name=row.template_name,
        spec=SandboxSpec(
            template=row.template_name,
            runtime=row.runtime,
            resources=resources_from_row(row),
            timeout_s=row.timeout_s,
            metadata=row.metadata,
            network=NetworkPolicy.from_json(row.network),
            secure=row.secure,
            lifecycle=LifecyclePolicy.from_json(row.lifecycle),
        ),
        state=SandboxState(row.state),
        created_at=row.created_at,
        agent_token=row.agent_token,
        started_at=row.started_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        end_reason=EndReason(row.end_reason) if row.end_reason is not None else None,
        end_message=row.end_message,
        address=row.address,
        handle=row.handle,
        traffic_token=row.traffic_token,
        save_id=row.save_id,
        pending_save_id=row.pending_save_id,
        head_id=row.head_id,
        paused_at=row.paused_at,
        build_id=row.build_id,
    )


def snapshot_to_row(snapshot: Snapshot) -> dict[str, object]:
    """The columns of a snapshot that is inserted, in `creating`."""
    return {
        "id": snapshot.id,
        "project_id": snapshot.project_id,
        "sandbox_id": snapshot.sandbox_id,
        "parent_id": snapshot.parent_id,
        "role": snapshot.role.value,
        "state": SnapshotState.CREATING.value,
        "kind": snapshot.kind.value,
        "name": None if snapshot.name is None else plain_name(snapshot.name),
        "template_id": snapshot.template_id,
        "template_name": snapshot.template_name,
        "runtime": snapshot.runtime,
        **resource_columns(snapshot.resources),
        "agent_token": snapshot.agent_token,
        "secure": snapshot.secure,
        "created_at": snapshot.created_at,
        "build_id": snapshot.build_id,
    }


def saved_columns(saved: Saved | None) -> dict[str, object]:
    """The columns that are known of a whole save; None: those of one that is gone."""
    if saved is None:
        return dict.fromkeys(("engine", "memory_bytes", "disk_bytes", "stopped_s", "layers"))
    return {
        "kind": saved.kind.value,
        "engine": saved.engine,
        "memory_bytes": saved.memory_bytes,
        "disk_bytes": saved.disk_bytes,
        "stopped_s": saved.stopped_s,
        "layers": list(saved.layers),
    }


def snapshot_from_row(row: Row[Any]) -> Snapshot:
    """A row of `snapshots`."""
    kind = SaveKind(row.kind)
    saved = None
    if row.engine is not None:
        saved = Saved(kind, row.memory_bytes, row.disk_bytes, row.engine, row.stopped_s, tuple(row.layers))
    return Snapshot(
        id=SnapshotId(row.id),
        project_id=ProjectId(row.project_id),
        sandbox_id=SandboxId(row.sandbox_id),
        parent_id=row.parent_id,
        role=SnapshotRole(row.role),
        state=SnapshotState(row.state),
        kind=kind,
        name=row.name,
        template_id=TemplateId(row.template_id),
        template_name=row.template_name,
        runtime=row.runtime,
        resources=resources_from_row(row),
        agent_token=row.agent_token,
        secure=row.secure,
        created_at=row.created_at,
        saved=saved,
        build_id=row.build_id,
    )


def pool_from_row(row: Row[Any]) -> Pool:
    """A row of `pools`."""
    return Pool(
        id=PoolId(row.id),
        project_id=ProjectId(row.project_id),
        template=row.template,
        runtime=row.runtime,
        resources=resources_from_row(row),
        ready=row.ready,
        created_at=row.created_at,
    )


def resource_columns(resources: Resources) -> dict[str, object]:
    """The columns that tables with resources share."""
    return {
        "cpu": resources.cpu,
        "memory_mib": resources.memory_mib,
        "disk_mib": resources.disk_mib,
        "pids_max": resources.pids_max,
    }


def resources_from_row(row: Row[Any]) -> Resources:
    """A row of any table with resources."""
    return Resources(row.cpu, row.memory_mib, row.disk_mib, row.pids_max)


def event_to_row(event: Event) -> dict[str, object]:
    """The columns of an event; its sequence is the database's to give."""
    return {
        "id": event.id,
        "type": event.type.value,
        "project_id": event.project_id,
        "sandbox_id": event.sandbox_id,
        "at": event.at,
        "data": dict(event.data),
    }


def event_from_row(row: Row[Any]) -> Event:
    """A row of `events`."""
    return Event(
        id=EventId(row.id),
        type=EventType(row.type),
        project_id=ProjectId(row.project_id),
        sandbox_id=SandboxId(row.sandbox_id),
        at=row.at,
        data=row.data,
        sequence=row.sequence,
    )
