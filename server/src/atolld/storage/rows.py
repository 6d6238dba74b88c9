"""Between rows and values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import ApiKey, Project, ProjectLimits
from atolld.core.sandbox import Resources, Sandbox, SandboxSpec
from atolld.foundation.ids import EventId, KeyId, ProjectId, SandboxId, TemplateId


def project_from_row(row: Row[Any]) -> Project:
    """A row of `projects`."""
    return Project(ProjectId(row.id), row.name, ProjectLimits(row.max_sandboxes, row.max_cpu, row.max_memory_mib))


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
        "cpu": spec.resources.cpu,
        "memory_mib": spec.resources.memory_mib,
        "disk_mib": spec.resources.disk_mib,
        "pids_max": spec.resources.pids_max,
        "timeout_s": spec.timeout_s,
        "metadata": dict(spec.metadata),
        "network": spec.network.to_json(),
        "secure": spec.secure,
        "state": SandboxState.CREATING.value,
        "agent_token": sandbox.agent_token,
        "traffic_token": sandbox.traffic_token,
        "created_at": sandbox.created_at,
        "listed_at": sandbox.created_at,
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
            resources=Resources(row.cpu, row.memory_mib, row.disk_mib, row.pids_max),
            timeout_s=row.timeout_s,
            metadata=row.metadata,
            network=NetworkPolicy.from_json(row.network),
            secure=row.secure,
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
    )


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
