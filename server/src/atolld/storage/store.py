"""What control may ask of persistence, one protocol a noun.

Every change of a sandbox's state is guarded by the state it was computed from: when the row is not there any more in
that state nothing is written and `Conflict` is raised. Events are written in the transaction of their change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from atolld.core.event import Event
from atolld.core.lifecycle import EndReason, SandboxState
from atolld.core.network import NetworkPolicy
from atolld.core.project import ApiKey, Project, ProjectLimits
from atolld.core.sandbox import Sandbox
from atolld.foundation.ids import KeyId, ProjectId, SandboxId


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's idempotency key (at most 255 characters) and the SHA-256, in hex, of what it asked for with it.

    An earlier claim of the same key counts when it was made after `valid_after` (Unix seconds).
    """

    key: str
    body_sha256: str
    valid_after: float


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list of sandboxes: the `listed_at` and id of the last one seen."""

    listed_at: float
    id: SandboxId


@dataclass(frozen=True, slots=True)
class SandboxQuery:
    """Which sandboxes of a project, in which order. Empty `states`: all; `metadata`: every pair must match.

    `started_after` is exclusive. `after` is the position behind which to go on.
    """

    project_id: ProjectId
    states: frozenset[SandboxState] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    started_after: float | None = None
    order: Literal["asc", "desc"] = "desc"
    limit: int = 100
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A sandbox of a list with its position."""

    sandbox: Sandbox
    position: Position


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of a sandbox once it runs; times are Unix seconds."""

    started_at: float
    expires_at: float | None
    address: str
    handle: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """Resources held over a span of time: vCPU-seconds and GiB-seconds of memory, by what was granted."""

    sandbox_id: SandboxId
    project_id: ProjectId
    since: float
    until: float
    vcpu_s: float
    memory_gib_s: float


class ProjectStore(Protocol):
    """Projects."""

    async def ensure(self, project: Project, now: float) -> Project:
        """The project with that name; `project` itself is stored when there is none."""
        ...

    async def get(self, id: ProjectId) -> Project:
        """Raises NotFound."""
        ...

    async def list(self) -> list[Project]:
        """All, by name."""
        ...

    async def set_limits(self, id: ProjectId, limits: ProjectLimits) -> Project:
        """Raises NotFound."""
        ...


class KeyStore(Protocol):
    """API keys; of the secret only its SHA-256 (hex) is stored."""

    async def insert(self, key: ApiKey, secret_sha256: str) -> None:
        """Raises NotFound when the project does not exist."""
        ...

    async def list(self, project_id: ProjectId) -> list[ApiKey]:
        """All of the project, oldest first, revoked ones too."""
        ...

    async def rename(self, project_id: ProjectId, id: KeyId, name: str) -> None:
        """Raises NotFound when the project has no such key or it is revoked already."""
        ...

    async def revoke(self, project_id: ProjectId, id: KeyId, now: float) -> None:
        """Raises NotFound when the project has no such key or it is revoked already."""
        ...

    async def find(self, secret_sha256: str) -> ApiKey | None:
        """The key with that secret, revoked or not."""
        ...

    async def touch(self, used: Mapping[KeyId, float]) -> None:
        """Record when keys were last used."""
        ...


class SandboxStore(Protocol):
    """Sandboxes and their states."""

    async def insert(self, sandbox: Sandbox, claim: Claim | None = None) -> SandboxId:
        """Store a sandbox in `creating`, if its project's limits allow one more, in one step.

        Returns its id; or the id that an earlier insert with the same `claim` stored, and then nothing is written.
        Raises LimitExceeded, naming the limit; NotFound without the project; Conflict when the claim's key was used for
        another body.
        """
        ...

    async def discard(self, id: SandboxId) -> None:
        """Delete a row in `creating` of which nothing was made, and its claim. Raises Conflict."""
        ...

    async def mark_running(self, id: SandboxId, started: Started, event: Event) -> None:
        """creating -> running. Raises Conflict."""
        ...

    async def mark_stopping(self, id: SandboxId, source: SandboxState, reason: EndReason, message: str) -> None:
        """`source` -> stopping, with the reason, so that a crash before the end does not lose it. Raises Conflict."""
        ...

    async def mark_ended(
        self,
        id: SandboxId,
        source: SandboxState,
        *,
        reason: EndReason,
        message: str,
        ended_at: float,
        metered_until: float,
        event: Event | None,
    ) -> None:
        """`source` -> ended: the last usage is recorded and secrets are forgotten. Raises Conflict.

        With reason CREATE_FAILED the idempotency key of the create is free again.
        """
        ...

    async def set_expiry(self, id: SandboxId, *, timeout_s: int | None, expires_at: float | None, event: Event) -> None:
        """Of a running one. Raises Conflict."""
        ...

    async def set_network(
        self, id: SandboxId, *, network: NetworkPolicy, traffic_token: str | None, event: Event
    ) -> None:
        """Of a running one. Raises Conflict."""
        ...

    async def get(self, project_id: ProjectId, id: SandboxId) -> Sandbox:
        """In any state. Raises NotFound."""
        ...

    async def list(self, query: SandboxQuery) -> list[Listed]:
        """At most `query.limit`, in order."""
        ...

    async def live(self) -> Sequence[Sandbox]:
        """All that have not ended, of every project, oldest first."""
        ...

    async def seen(self, now: float) -> None:
        """Record that every running sandbox was known to run at `now`."""
        ...

    async def meter(self, id: SandboxId, until: float) -> None:
        """Record the usage of a running sandbox up to `until`."""
        ...

    async def last_seen(self, id: SandboxId) -> float | None:
        """When it was last known to run; None before it ran."""
        ...

    async def purge(self, *, ended_before: float, claims_before: float) -> int:
        """Delete ended sandboxes and their events, and old idempotency keys; usage stays. Returns sandboxes deleted."""
        ...


class EventStore(Protocol):
    """The stream of events."""

    async def list(
        self, project_id: ProjectId, sandbox_id: SandboxId | None, after_sequence: int, limit: int
    ) -> list[Event]:
        """Oldest first, with sequences above `after_sequence`."""
        ...


class UsageStore(Protocol):
    """What sandboxes used, for accounting."""

    async def list(self, project_id: ProjectId, since: float, until: float) -> Sequence[UsageRecord]:
        """Records of the project that overlap the span, oldest first."""
        ...
