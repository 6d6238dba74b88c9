"""The events control writes, and their data."""

from __future__ import annotations

from atolld.core.event import Event, EventType
from atolld.core.lifecycle import EndReason
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Saved, Snapshot
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


def paused_event(sandbox: Sandbox, at: float, saved: Saved, why: str) -> Event:
    """`sandbox` is paused. Data: kind, save_id, size_bytes, reason (`requested`, `timeout`, `idle`, `host_lost`)."""
    return _event(
        sandbox,
        EventType.PAUSED,
        at,
        {
            "kind": saved.kind.value,
            "save_id": sandbox.pending_save_id,
            "size_bytes": saved.memory_bytes + saved.disk_bytes,
            "reason": why,
        },
    )


def pause_failed_event(sandbox: Sandbox, at: float, why: str, message: str) -> Event:
    """`sandbox` could not be paused and goes on. Data: reason (as above), message."""
    return _event(sandbox, EventType.PAUSE_FAILED, at, {"reason": why, "message": message})


def resumed_event(sandbox: Sandbox, at: float, expires_at: float | None, *, rollback: bool) -> Event:
    """`sandbox` runs again. Data: save_id, expires_at, rollback."""
    data: dict[str, object] = {"save_id": sandbox.save_id, "expires_at": expires_at, "rollback": rollback}
    return _event(sandbox, EventType.RESUMED, at, data)


def frozen_event(sandbox: Sandbox, at: float, why: str) -> Event:
    """`sandbox` stands still. Data: reason (`requested`, `idle`)."""
    return _event(sandbox, EventType.FROZEN, at, {"reason": why})


def thawed_event(sandbox: Sandbox, at: float) -> Event:
    """`sandbox` goes on."""
    return _event(sandbox, EventType.THAWED, at, {})


def checkpointed_event(sandbox: Sandbox, at: float, snapshot: Snapshot, saved: Saved) -> Event:
    """A snapshot of `sandbox` is there. Data: snapshot_id, name, kind, size_bytes, stopped_s."""
    return _event(
        sandbox,
        EventType.CHECKPOINTED,
        at,
        {
            "snapshot_id": snapshot.id,
            "name": snapshot.name,
            "kind": saved.kind.value,
            "size_bytes": saved.memory_bytes + saved.disk_bytes,
            "stopped_s": saved.stopped_s,
        },
    )


def _event(sandbox: Sandbox, type: EventType, at: float, data: dict[str, object]) -> Event:
    return Event(new_event_id(), type, sandbox.project_id, sandbox.id, at, data)
