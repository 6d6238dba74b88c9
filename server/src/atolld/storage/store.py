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
from atolld.core.pool import Pool
from atolld.core.project import ApiKey, Project, ProjectLimits
from atolld.core.sandbox import Sandbox
from atolld.core.snapshot import Saved, Snapshot, SnapshotRole
from atolld.foundation.ids import KeyId, PoolId, ProjectId, SandboxId, SnapshotId


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

    async def insert_running(
        self, sandbox: Sandbox, started: Started, event: Event, claim: Claim | None = None
    ) -> SandboxId:
        """As `insert` and `mark_running` in one transaction, for a sandbox that runs already (from a warm pool)."""
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

        What it resumed from and what was being written of it is `deleting`, unless a user asked for it or another live
        sandbox resumes from it.
        With reason CREATE_FAILED the idempotency key of the create is free again.
        """
        ...

    async def mark_frozen(self, id: SandboxId, event: Event) -> None:
        """running -> frozen. Raises Conflict."""
        ...

    async def mark_thawed(self, id: SandboxId, event: Event) -> None:
        """frozen -> running. Raises Conflict."""
        ...

    async def mark_pausing(self, id: SandboxId, source: SandboxState, snapshot: Snapshot) -> None:
        """`source` (running or frozen) -> pausing; `snapshot`, in `creating`, becomes what is being written.

        Raises Conflict; LimitExceeded when the project's saves already hold all they may.
        """
        ...

    async def mark_paused(self, id: SandboxId, saved: Saved, paused_at: float, event: Event) -> None:
        """pausing -> paused: the pending save is ready and is what the sandbox resumes from.

        The save it had before is not needed any more (`deleting`, unless a user asked for that one or another live
        sandbox resumes from it). Usage is recorded
        up to `paused_at`; it has no address and no time to end. Raises Conflict.
        """
        ...

    async def mark_going_on(self, id: SandboxId, event: Event | None) -> None:
        """pausing -> running: it could not be saved; the pending save is `deleting`. Raises Conflict."""
        ...

    async def mark_resuming(self, id: SandboxId, source: SandboxState, save_id: SnapshotId | None, now: float) -> None:
        """`source` -> resuming, from `save_id` (a rollback: from any state that may), or from the save it has (None).

        With a rollback the save it had before is let go as by `mark_paused`; usage of one that ran is recorded up to
        `now`. Raises Conflict, also when the project has no ready `save_id`; LimitExceeded when a paused one is not
        admitted again.
        """
        ...

    async def mark_resumed(self, id: SandboxId, started: Started, event: Event) -> None:
        """resuming -> running. `started_at` of the row stays; usage counts from `started.started_at`; what it was
        resumed from is the parent of what comes next (`head_id`). Raises Conflict."""
        ...

    async def mark_given_back(self, id: SandboxId, paused_at: float) -> None:
        """resuming -> paused: it did not come up. Raises Conflict."""
        ...

    async def set_head(self, id: SandboxId, head_id: SnapshotId) -> None:
        """The next snapshot's parent. Of a live one; gone is success."""
        ...

    async def set_lifecycle(
        self, id: SandboxId, source: SandboxState, lifecycle: Mapping[str, object], event: Event
    ) -> None:
        """Another policy (`LifecyclePolicy.to_json`). Raises Conflict."""
        ...

    async def set_expiry(self, id: SandboxId, *, timeout_s: int | None, expires_at: float | None, event: Event) -> None:
        """Of a running or frozen one. Raises Conflict."""
        ...

    async def set_network(
        self, id: SandboxId, *, network: NetworkPolicy, traffic_token: str | None, event: Event
    ) -> None:
        """Of a running or frozen one. Raises Conflict."""
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
        """Record that every sandbox that runs, is frozen or is being saved was known to run at `now`."""
        ...

    async def meter(self, id: SandboxId, until: float) -> None:
        """Record the usage up to `until` of a sandbox that runs, is frozen or is being saved. Raises Conflict."""
        ...

    async def last_seen(self, id: SandboxId) -> float | None:
        """When it was last known to run; None before it ran."""
        ...

    async def purge(self, *, ended_before: float, claims_before: float) -> int:
        """Delete ended sandboxes and their events, and old idempotency keys; usage stays. Returns sandboxes deleted."""
        ...


@dataclass(frozen=True, slots=True)
class SnapshotPosition:
    """A place in a list of snapshots: `created_at` and id of the last one seen."""

    created_at: float
    id: SnapshotId


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """Which of a project's whole snapshots, newest first. `roles`: of these only; `name`: with exactly this name."""

    project_id: ProjectId
    sandbox_id: SandboxId | None = None
    name: str | None = None
    roles: frozenset[SnapshotRole] = frozenset({SnapshotRole.SNAPSHOT})
    limit: int = 100
    after: SnapshotPosition | None = None


class SnapshotStore(Protocol):
    """Snapshots, those that belong to paused sandboxes included. Every write is guarded by the state it came from."""

    async def insert(self, snapshot: Snapshot) -> None:
        """Store one in `creating`. Raises LimitExceeded (`max_snapshots`, `max_saved_mib` of the project)."""
        ...

    async def mark_ready(self, id: SnapshotId, saved: Saved, event: Event | None, *, moves_head: bool = True) -> None:
        """creating -> ready. Its name, if it has one, is taken from whichever snapshot of the project had it before.
        The source's `head_id` becomes this one, when it is live, the role is SNAPSHOT and `moves_head`.
        Raises Conflict."""
        ...

    async def mark_deleting(self, id: SnapshotId) -> None:
        """ready or creating -> deleting: nobody finds it any more, and its name is free. Raises Conflict."""
        ...

    async def mark_deleted(self, id: SnapshotId) -> None:
        """deleting -> deleted: its files are gone. The row is removed unless a kept snapshot or a live sandbox has it
        as parent or head; rows kept only for that go with their last child. Those of pauses and forks go already with
        their last but one, which gets their parent: a sandbox that is often paused keeps no row of each time.
        Raises Conflict."""
        ...

    async def get(self, project_id: ProjectId, id_or_name: str) -> Snapshot:
        """A ready one, by id or by name; a name without a tag means the tag `default`, which is not written down.
        Raises NotFound."""
        ...

    async def find(self, id: SnapshotId) -> Snapshot | None:
        """In any state, of any project."""
        ...

    async def list(self, query: SnapshotQuery) -> Sequence[Snapshot]:
        """Ready ones, newest first, at most `query.limit`."""
        ...

    async def tree(self, project_id: ProjectId, sandbox_id: SandboxId) -> Sequence[Snapshot]:
        """Every snapshot in the sandbox's tree, ancestors and descendants of its own ones included, oldest first;
        with the deleted ones that have a ready one below them. Saves of forks are left out: what was taken of a fork
        has as its parent what the fork was made from."""
        ...

    async def needed(self) -> set[SnapshotId]:
        """Whose files must stay: ready ones, those being written, and those that a live sandbox resumes from."""
        ...

    async def removable(self) -> Sequence[SnapshotId]:
        """Those in `deleting` that no live sandbox resumes from."""
        ...

    async def interrupted(self) -> Sequence[SnapshotId]:
        """For the start of a daemon: those in `creating` that no sandbox in `pausing` waits for, and saves of forks."""
        ...

    async def saved_bytes(self, project_id: ProjectId) -> int:
        """Bytes on disk of all the project's saves; those that are `deleting` count until their files are gone."""
        ...


class PoolStore(Protocol):
    """Warm pools."""

    async def put(self, pool: Pool) -> Pool:
        """Store it; a pool of the same project, template, runtime and resources keeps its id and gets the new `ready`.
        Returns what is stored."""
        ...

    async def list(self, project_id: ProjectId | None) -> Sequence[Pool]:
        """Of one project or of all, oldest first."""
        ...

    async def get(self, project_id: ProjectId, id: PoolId) -> Pool:
        """Raises NotFound."""
        ...

    async def delete(self, project_id: ProjectId, id: PoolId) -> None:
        """Raises NotFound."""
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
