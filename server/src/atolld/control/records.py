"""The events control writes, and their data."""

from __future__ import annotations

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason
from atolld.core.sandbox import Sandbox
from atolld.foundation.ids import new_event_id


def created_event(sandbox: Sandbox, at: float, expires_at: float | None) -> Event:
    """`sandbox` has started at `at`. Data: template, template_id, runtime, cpu, memory_mib, disk_mib, expires_at,
    metadata."""
    resources = sandbox.spec.resources
    return _event(
        sandbox,
        EventType.CREATED,
        at,
        {
            "template": sandbox.template_name,
            "template_id": sandbox.template_id,
            "runtime": sandbox.spec.runtime,
            "cpu": resources.cpu,
            "memory_mib": resources.memory_mib,
            "disk_mib": resources.disk_mib,
            "expires_at": expires_at,
            "metadata": dict(sandbox.spec.metadata),
        },
    )


def updated_event(sandbox: Sandbox, at: float, **changes: object) -> Event:
    """Fields of `sandbox` were changed. Data: the changed fields with their new values."""
    return _event(sandbox, EventType.UPDATED, at, changes)


def killed_event(sandbox: Sandbox, at: float, reason: EndReason, message: str) -> Event | None:
    """`sandbox` has ended. Data: reason, message, ran_s.

    None when it never ran: a `killed` follows a `created`, always.
    """
    if sandbox.started_at is None:
        return None
    data: dict[str, object] = {"reason": reason.value, "message": message, "ran_s": max(0.0, at - sandbox.started_at)}
    return _event(sandbox, EventType.KILLED, at, data)


def _event(sandbox: Sandbox, type: EventType, at: float, data: dict[str, object]) -> Event:
    return Event(new_event_id(), type, sandbox.project_id, sandbox.id, at, data)
