"""What happened to a sandbox, in order; webhooks, audit, usage and the dashboard read this one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from atolld.foundation.ids import EventId, ProjectId, SandboxId


class EventType(StrEnum):
    """Kinds of events; the text is stored and shown."""

    CREATED = "sandbox.created"
    UPDATED = "sandbox.updated"
    KILLED = "sandbox.killed"
    PAUSED = "sandbox.paused"
    RESUMED = "sandbox.resumed"
    CHECKPOINTED = "sandbox.checkpointed"
    FROZEN = "sandbox.frozen"
    THAWED = "sandbox.thawed"
    PAUSE_FAILED = "sandbox.pause_failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `sequence` is given by the store, increasing; `at` is Unix seconds; `data` holds JSON values."""

    id: EventId
    type: EventType
    project_id: ProjectId
    sandbox_id: SandboxId
    at: float
    data: Mapping[str, object]
    sequence: int = 0
