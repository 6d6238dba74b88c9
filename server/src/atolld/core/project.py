"""Projects, their limits, and the keys that speak for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from atolld.foundation.ids import KeyId, ProjectId


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """What one project may hold at once; None means only the machine limits it.

    `max_snapshots` counts what users asked for; `max_saved_mib` bounds the bytes of all its saves, those of paused
    sandboxes included.
    """

    max_sandboxes: int | None = None
    max_cpu: float | None = None
    max_memory_mib: int | None = None
    max_snapshots: int | None = None
    max_saved_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant: everything belongs to exactly one project and is invisible to the others."""

    id: ProjectId
    name: str
    limits: ProjectLimits = field(default_factory=ProjectLimits)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. `prefix` is the visible beginning; `last_used_at` and `revoked_at` are Unix seconds."""

    id: KeyId
    project_id: ProjectId
    name: str
    prefix: str
    created_at: float
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for, once its key was checked."""

    project_id: ProjectId
    key_id: KeyId
